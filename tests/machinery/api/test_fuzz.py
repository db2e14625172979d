"""Requests that nobody would think of: each is answered, none with an error of the server's."""

import http.client
import json
import os
import random
import re
import secrets
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from api_process import example
from conftest import PACKAGE

from iris_flower_prediction.contract import CONTRACT

pytestmark = pytest.mark.slow

# FUZZ_SEED=… repeats a run: the seed is printed with a failure.
SEED = int(os.environ.get("FUZZ_SEED") or secrets.randbelow(10**6))
MUTATIONS, CONNECTIONS = 3000, 200


@pytest.fixture
def source():
    print(f"FUZZ_SEED={SEED}")
    return random.Random(SEED)  # noqa: S311


def require_unharmed(api) -> None:
    """It serves as before, and its log has no error."""
    assert api.is_ready()
    assert api.post("/predict", example()).status == 200
    assert [line for line in api.logs() if line["level"] == "error"] == []
    assert "Traceback" not in api.output.read_text()


# Schemathesis: what the description promises

# Among what may refuse a wrong body is its size, which Schemathesis does not expect by itself.
REFUSALS = """[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 413, 415, 422, 503]
"""


@pytest.mark.parametrize("key", ["no key needed", "with a key", "without a key"])
def test_every_answer_is_as_described(serve, project, tmp_path, key):
    headers = []
    if key != "no key needed":
        made = project.run("api-key", "create", "fuzz").stdout.split()[-1]
        headers = ["--header", f"X-API-Key: {made}"] if key == "with a key" else []
    api = serve(APP__AUTHENTICATION__REQUIRED=str(key != "no key needed"))
    (tmp_path / "schemathesis.toml").write_text(REFUSALS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json"),
            # JSON Schema cannot say that all columns have the same length.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--seed", str(SEED), "--max-examples", "10", "--max-time", "12"),
            *("--continue-on-failure", *headers),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    # How many there are depends on how busy the machine is.
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 10
    assert api.is_ready()
    assert [line for line in api.logs() if line["level"] == "error"] == []


# Mutations of requests that are good

DATA, KEY = example(2)["data"], CONTRACT.key
KEYS = {KEY.name: [1, 2] if KEY.type == "integer" else ["a", "b"]} if KEY else {}
TENSORS = [
    {"name": name, "shape": [2], "datatype": "FP64", "data": values}
    for name, values in DATA.items()
]
ROWS = [list(row) for row in zip(*DATA.values(), strict=True)]
JSON, CSV = {"Content-Type": "application/json"}, {"Content-Type": "text/csv"}
GOOD = [
    ("/predict", JSON, {"model": PACKAGE, "data": DATA | KEYS}),
    ("/predict?detail=true", JSON, {"data": DATA}),
    ("/invocations", JSON, {"dataframe_split": {"columns": CONTRACT.names, "data": ROWS}}),
    ("/invocations", JSON, {"dataframe_records": [dict(zip(DATA, ROWS[0], strict=True))]}),
    ("/invocations", JSON, {"instances": ROWS}),
    ("/invocations", JSON, {"inputs": DATA | KEYS}),
    ("/invocations", CSV, (",".join(CONTRACT.names) + "\n" + "1," * len(ROWS) + "1\n").encode()),
    (f"/v2/models/{PACKAGE}/infer", JSON, {"id": "1", "inputs": TENSORS}),
    ("/model", {}, b""),
    ("/v2/models/other/versions/1", {}, b""),
]
ODD = [
    *(None, True, False, 0, -1, 1.5, 2**31, 2**63, 10**400, 1e308, -1e39, 5e-324, -0.0),
    *(float("nan"), float("inf"), "", "x", "\0", "\ud800", "é" * 100, "1", "2020-01-01", "NaN"),
    *([], {}, [[]], [None], [1, "a", None], {"": {"a": []}}, [[[1]]], [{}] * 3),
]
DEEP = b"[" * 5000 + b"]" * 5000
PIECES = [
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"{", b"}", b"[", b'"', b"\\u", b",", b"-"),
    *(b"1" * 5000, b"1e999999", b"NaN", b"null", b"\\ud800", b"\r\n", DEEP),
]
METHODS = ["POST"] * 80 + ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND"]
HEADERS = {
    "Content-Type": ["", ";", "application/json; charset=", "text/csv;charset=latin-1", "a/b", "é"],
    "Content-Encoding": ["gzip", "identity", "", "br, gzip"],
    "Inference-Header-Content-Length": ["", "0", "-1", "5", "1e3", "²", "9" * 5000],
    "X-Request-Id": ["", "a b", "x" * 100, "\xff", '"', "../.."],
    "X-API-Key": ["", "a.b", "\xff\xfe", "x" * 5000],
    "Authorization": ["", "Basic eA==", "Bearer", "Bearer a.b.c", "Bearer " + "." * 2000, "\xe9"],
    "Accept": ["", "text/html", "*/*;q=?"],
    "Expect": ["100-continue", "?"],
    "Host": ["", "a b", "[::1", "x" * 1000],
    "X-Forwarded-For": ["1.2.3.4", "é"],
}
PATHS = [
    *("/", "//", "/predict/", "/predict%00", "/predict/../model", "/%2e%2e/%2e%2e/etc/passwd"),
    *("/docs/%2e%2e%2fapi.py", "/v2/models/%ff/infer", "/v2/models/a/versions/%0a", "/%e2%80%a8"),
    *("/" + "x" * 10_000, "/predict?detail=%ff", "/predict?detail", "/predict?" + "a=b&" * 1000),
    *("/health/ready", "/openapi.json", "/metrics", "/version", "*", "http://example.com/model"),
]


def places(value) -> list:
    """Every container of a JSON value with each of its keys."""
    if not isinstance(value, dict | list):
        return []
    keys = value if isinstance(value, dict) else range(len(value))
    return [place for key in keys for place in [(value, key), *places(value[key])]]


def odd_value(source, content):
    """The content with something else somewhere."""
    content = json.loads(json.dumps(content))
    container, key = source.choice(places(content))
    kind = source.randrange(4)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[source.choice([key + "x", "", key.lower()])] = container.pop(key)
    elif kind == 2 and isinstance(container, list) and len(container) < 100:
        container *= source.choice([2, 50])
    else:
        container[key] = source.choice(ODD)
    return content


def odd_bytes(source, body: bytes) -> bytes:
    """The body with a piece taken out, put in, or changed."""
    at, size = source.randint(0, len(body)), source.choice([1, 1, 2, 8, len(body)])
    pieces = (b"", source.choice(PIECES), source.randbytes(size), body[at : at + size])
    piece = source.choice(pieces)
    return body[:at] + piece + body[at + source.choice([0, size]) :]


def mutate(source) -> tuple[str, str, bytes, dict[str, str]]:
    """A request that was good: method, path, body and headers."""
    path, headers, content = source.choice(GOOD)
    times = source.choice([0, 1, 1, 2, 4])
    for _ in range(times if not isinstance(content, bytes) else 0):
        content = odd_value(source, content) if places(content) else content
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    for _ in range(source.choice([0, 0, 1, 3])):
        body = odd_bytes(source, body)
    headers = dict(headers)
    for _ in range(source.choice([0, 0, 0, 1, 2])):
        name = source.choice(list(HEADERS))
        headers[name] = source.choice(HEADERS[name])
    if source.random() < 0.05:
        path = source.choice(PATHS)
    return source.choice(METHODS), path, body, headers


def statuses_of(api) -> dict[str, set[int]]:
    """The described statuses of every path that takes POST."""
    paths = api.get("/openapi.json").json["paths"]
    return {
        path.replace("{name}", PACKAGE): set(map(int, operations["post"]["responses"]))
        for path, operations in paths.items()
        if "post" in operations
    }


def require_answer(response: http.client.HTTPResponse, body: bytes, method: str) -> None:
    status = response.status
    assert status < 500 or status == 503
    of_server = not response.getheader("X-Request-Id")
    assert not of_server or status in (400, 431), "what is no request is granian's to refuse"
    if method != "HEAD" and status >= 400 and not of_server:
        assert response.getheader("Content-Type") == "application/problem+json"
        found = json.loads(body)
        assert found["status"] == status and found["code"] and found["detail"]


def test_mutated_requests_are_answered(serve, source):
    api = serve()
    described = statuses_of(api)
    statuses = {}
    for number in range(MUTATIONS):
        if number % 100 == 0:
            connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
        method, path, body, headers = mutate(source)
        asked = f"{method} {path[:200]} {str(headers)[:1000]} {body[:2000]}"
        chunked = source.random() < 0.1
        try:
            connection.request(
                method, path, iter([body]) if chunked else body, headers, encode_chunked=chunked
            )
            response = connection.getresponse()
            content = response.read()
            if response.getheader("Connection") == "close" or response.status == 400:
                connection.close()
            require_answer(response, content, method)
            if method == "POST":
                assert response.status in described.get(path.partition("?")[0], {response.status})
        except (AssertionError, http.client.HTTPException, OSError) as error:
            raise AssertionError(f"{error!r} after {asked}") from error
        statuses[response.status] = statuses.get(response.status, 0) + 1
    connection.close()
    # Some were still good, most were not.
    assert statuses[200] > MUTATIONS / 50 and statuses[422] > MUTATIONS / 20, statuses
    require_unharmed(api)


# What is no HTTP

BODY = json.dumps(example()).encode()
REQUEST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
REQUEST += b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_HTTP = [
    *(b"", b"\r\n", b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"),
    b"BREW / HTTP/1.1\r\n\r\n",
    *(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(CHUNKED + b"5\r\nab", CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n", CHUNKED + b"f" * 40 + b"\r\n"),
    b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    *(b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\n\r\n" + body for body in (b"", b"a")),
    b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 50_000 + b"\r\n\r\n",
    b"GET /model HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET /model HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
]


def answered(port: int, sent: bytes) -> bytes:
    """All that comes back, until the server closes the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            connection.sendall(sent)
            while more := connection.recv(65536):
                received += more
        except (ConnectionResetError, BrokenPipeError):
            pass  # it did not want to hear the rest
    return received


def test_what_is_no_http_harms_nobody(serve, source):
    seconds = {
        "APP__API__HEADER_SECONDS": 0.5,
        "APP__API__BODY_SECONDS": 0.5,
    }
    api = serve(**seconds)
    assert answered(api.port, REQUEST).startswith(b"HTTP/1.1 200 OK\r\n")
    sent = [*NO_HTTP, *(odd_bytes(source, REQUEST) for _ in range(CONNECTIONS))]
    with ThreadPoolExecutor(10) as clients:
        received = list(clients.map(partial(answered, api.port), sent))
    for said, answer in zip(sent, received, strict=True):
        assert re.match(rb"HTTP/1.1 (200|4\d\d|503) |$", answer), (said, answer)
    require_unharmed(api)
