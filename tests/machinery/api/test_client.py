"""The client: every row gets its own prediction, whatever the network and the API make of it.

The API is played by a small server that misbehaves as told.
"""

import csv
import functools
import hashlib
import json
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest
from conftest import wait_for

from iris_flower_prediction import cli
from iris_flower_prediction.api import client, remote
from iris_flower_prediction.api.values import parse
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.schema.columns import Column

BAD = "no such value"


def digest(values: list) -> str:
    """What the played API predicts: another text for every other row."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def fits(column: Column, value) -> bool:
    if value is None:
        return column.nullable
    if column.type == "date":
        return value != BAD and date.fromisoformat(value) is not None
    if column.allowed:
        return value in column.allowed
    kinds = {"boolean": bool, "integer": int, "text": str}
    return isinstance(value, kinds.get(column.type, (int, float)))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_POST(self):
        server = self.server
        behave = server.plan.pop(0) if server.plan else predict
        if behave is not refuse_unread:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append((self.path, dict(self.headers), body["data"]))
        behave(self)

    def answer(self, status: int, content, **headers) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def problem(self, status: int, code: str, detail: str, **more) -> None:
        content = {"status": status, "code": code, "detail": detail, **more}
        self.answer(status, content, Content_Type="application/problem+json")

    def log_message(self, *_):
        """Nothing on the screen."""


def predict(handler: Handler) -> None:
    data, server = handler.server.requests[-1][2], handler.server
    rows = list(zip(*data.values(), strict=True))
    if len(rows) > server.max_rows:
        return handler.problem(413, "too_large", f"{len(rows)} rows; {server.max_rows} are allowed")
    violations = [
        {"column": column.name, "index": index, "value": value, "reason": "is not allowed"}
        for column in client.CONTRACT.inputs
        for index, value in enumerate(data[column.name])
        if not fits(column, value)
    ]
    if violations:
        shown = violations[: server.max_violations]
        return handler.problem(422, "contract", "rows break the contract", violations=shown)
    answer = {"predictions": [digest(row) for row in rows], "model": {"name": "m", "version": "7"}}
    if "probability" in client.added():
        answer["probabilities"] = [0.25] * len(rows)
    return handler.answer(200, answer)


def status(code: int, **headers):
    return lambda handler: handler.answer(code, {"detail": f"told {code}."}, **headers)


def drop(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def cut_short(handler: Handler) -> None:
    handler.answer(200, b'{"predictions": [', Content_Length=1000)
    handler.close_connection = True


def leave(handler: Handler) -> None:
    """Answer, and then close a connection that was said to be kept."""
    predict(handler)
    handler.close_connection = True


def trickle(handler: Handler) -> None:
    """Byte after byte, each well within a socket's timeout."""
    handler.answer(200, b"", Content_Length=1000)
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b" ")


def stall(handler: Handler) -> None:
    handler.server.over.wait(60)


def refuse_unread(handler: Handler) -> None:
    """As a server does that has seen the Content-Length and wants none of it."""
    handler.answer(413, {"detail": "too many bytes"}, Connection="close")


@pytest.fixture
def api():
    """The played API: what it was asked is in ``requests``, ``plan`` says what it does next."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.plan, server.connections = [], [], 0
    server.max_rows, server.max_violations = 10_000, 1_000
    server.over = threading.Event()
    server.handle_error = lambda *_: None  # a client that has gone
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=[0.01]).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def pauses(monkeypatch):
    """The seconds between tries, which nobody waits for here."""
    taken = []
    monkeypatch.setattr(remote, "time", FakeTime(taken))
    return taken


class FakeTime:
    monotonic = staticmethod(time.monotonic)

    def __init__(self, taken: list) -> None:
        self.sleep = taken.append


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("API_KEY", raising=False)


@pytest.fixture
def write(project, rows):
    """write(n, bad, **columns): a csv file of n rows and a column of notes."""

    def make(count: int = 10, bad=(), name: str = "rows.csv"):
        text = pa.schema([(each, pa.string()) for each in CONTRACT.needed])
        table = rows(max(count, 1)).slice(0, count).cast(text)
        notes = [f'note "{at}",\nsecond line' for at in range(count)]
        columns = [notes, *(each.to_pylist() for each in table)]
        lines = [list(line) for line in zip(*columns, strict=True)]
        for at in bad:
            lines[at][1 + table.column_names.index(CONTRACT.names[0])] = BAD
        file = project.folder / name
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([["note", *table.column_names], *lines])
        return file

    return make


@pytest.fixture
def ask(api, call, project):
    """ask(file, *words): the finished command, its output file if there is one, and its rows."""

    def run(file, *words, **chosen):
        output = project.folder / "out.csv"
        done = call("predict", "--url", api.url, file, "--output", output, *words, **chosen)
        assert not list(project.folder.glob(".*unfinished"))
        done.rows = read(output) if output.exists() else None
        return done

    return run


def read(file) -> list[dict]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def require_whole(found: list[dict], file, refused=()) -> None:
    """The input, in its order, with the prediction of each row beside it."""
    given = read(file)
    assert len(found) == len(given)
    for at, (row, before) in enumerate(zip(found, given, strict=True)):
        values = [parse(column, before[column.name]) for column in client.CONTRACT.inputs]
        kept = {name: row[name] for name in before}
        assert kept == before
        assert row["prediction"] == ("" if at in refused else digest(values))
        assert row["model_version"] == ("" if at in refused else "7")
        if "probability" in client.added():
            assert row["probability"] == ("" if at in refused else "0.25")


def sizes(api) -> list[int]:
    return [len(data[CONTRACT.names[0]]) for _, _, data in api.requests]


def test_every_row_gets_its_prediction_in_batches(api, ask, write):
    file = write(25)
    done = ask(file, "--batch-rows", 10)
    assert done.returncode == 0
    assert list(done.rows[0]) == ["note", *CONTRACT.needed, *client.added()]
    require_whole(done.rows, file)
    assert (sizes(api), api.connections) == ([10, 10, 5], 1)
    path, headers, data = api.requests[0]
    assert path == "/predict?detail=true"
    assert list(data) == CONTRACT.needed
    assert headers["Content-Type"] == headers["Accept"] == "application/json"
    assert "X-API-Key" not in headers
    assert "25 rows" in done.stderr


def test_the_standard_output_and_the_url_of_the_settings(api, call, write):
    file = write(3)
    done = call("predict", file, APP__API__PORT=api.server_address[1])
    assert done.returncode == 0
    require_whole(list(csv.DictReader(done.stdout.splitlines(keepends=True))), file)


def test_the_key_column_is_sent_too(api, ask, write, monkeypatch):
    keyed = replace(CONTRACT, key=Column("THE_KEY", "text"))
    file = write()
    assert ask(file).returncode == 0
    monkeypatch.setattr(client, "CONTRACT", keyed)
    assert "column THE_KEY is missing" in ask(file).stderr
    file.write_bytes(file.read_bytes().replace(b"note", b"THE_KEY", 1))
    done = ask(file)
    assert (done.returncode, list(api.requests[-1][2])) == (0, ["THE_KEY", *CONTRACT.names])
    require_whole(done.rows, file)


def test_no_rows_are_no_requests(api, ask, write):
    assert (ask(write(0)).rows, api.requests) == ([], [])


def test_an_empty_line_is_no_row_and_a_mark_at_the_start_no_name(api, ask, write):
    file = write(2)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + b"\r\n")
    found = ask(file).rows
    assert (len(found), next(iter(found[0]))) == (2, "note")


@pytest.mark.parametrize("from_file", [False, True])
def test_the_key_is_sent_and_never_shown(api, ask, write, monkeypatch, project, from_file):
    words = []
    if from_file:
        (project.folder / "key").write_text("s3cret\n", "utf-8")
        words = ["--key-file", project.folder / "key"]
    monkeypatch.setenv("API_KEY", "other" if from_file else "s3cret")
    assert ask(write(), *words).returncode == 0
    assert api.requests[0][1]["X-API-Key"] == "s3cret"
    api.plan = [status(401)]
    done = ask(write(), *words)
    assert done.returncode == 2
    assert "s3cret" not in done.stdout + done.stderr


def test_a_key_that_no_header_can_hold_is_refused_unshown(api, ask, write, monkeypatch):
    monkeypatch.setenv("API_KEY", "s3cret\r\nHost: elsewhere")
    done = ask(write())
    assert (done.returncode, api.requests) == (2, [])
    assert "API_KEY holds no key" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("code", sorted(remote.PASSING))
def test_what_may_pass_is_tried_again(api, ask, write, pauses, code):
    file = write(20)
    api.plan = [status(code), status(code), predict, status(code)]
    done = ask(file, "--batch-rows", 10)
    assert done.returncode == 0
    require_whole(done.rows, file)
    assert sizes(api) == [10] * 5
    assert len(pauses) == 3
    for pause, longest in zip(pauses, (0.2, 0.4, 0.2), strict=True):
        assert 0 <= pause <= longest


@pytest.mark.parametrize(
    ("given", "waited"), [("2", 2), ("1000", 30), ("Wed, 01 Jan 2031 00:00:00 GMT", 0), ("-1", 0)]
)
def test_retry_after_is_honoured_within_bounds(api, ask, write, pauses, given, waited):
    api.plan = [status(503, Retry_After=given)]
    assert ask(write()).returncode == 0
    assert waited <= pauses[0] <= waited + 0.2


@pytest.mark.parametrize("trouble", [drop, cut_short, leave])
def test_lost_connections_lose_no_row(api, ask, write, trouble):
    file = write(30)
    api.plan = [predict, trouble, predict, trouble]
    done = ask(file, "--batch-rows", 10)
    assert done.returncode == 0
    require_whole(done.rows, file)


@pytest.mark.parametrize("trouble", [stall, trickle])
def test_a_try_has_its_time(api, ask, write, trouble):
    file = write()
    api.plan = [trouble]
    started = time.monotonic()
    done = ask(file, "--timeout", 0.4)
    assert done.returncode == 0
    assert 0.4 <= time.monotonic() - started < 10
    require_whole(done.rows, file)


def test_tries_are_bounded_and_nothing_half_is_left(api, ask, write, pauses, project):
    (project.folder / "out.csv").write_text("a\nolder\n", "utf-8")
    api.plan = [predict] + [status(503)] * 50
    done = ask(write(20), "--batch-rows", 10, "--retries", 3)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "tried 4 times: 503: told 503." in done.stderr
    assert (len(api.requests), len(pauses)) == (5, 3)
    assert done.rows == [{"a": "older"}]


def test_no_try_begins_after_the_last_second(api, ask, write, pauses, monkeypatch):
    monkeypatch.setattr(remote, "REQUEST_SECONDS", 25.0)
    api.plan = [status(503, Retry_After="30")] * 50
    assert ask(write()).returncode == 2
    assert (len(api.requests), pauses) == (1, [])


def test_nobody_listens(ask, write, api, pauses):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        api.url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = ask(write())
    assert (done.returncode, done.rows, len(pauses)) == (2, None, 5)
    assert "refused" in done.stderr


def test_refused_rows_are_named_and_the_others_predicted(api, ask, write):
    bad = [3, 7, 19]
    file = write(20, bad)
    done = ask(file, "--batch-rows", 10)
    assert done.returncode == 1
    require_whole(done.rows, file, refused=bad)
    assert sizes(api) == [10, 8, 10, 9]
    name = CONTRACT.names[0]
    # Every row of the file has two lines; the header has one.
    for at in bad:
        assert f"rows.csv, line {2 * at + 3}: {name} {BAD} is not allowed\n" in done.stderr
    assert "20 rows, 3 of them refused" in done.stderr


def test_of_many_refused_rows_some_are_named(api, ask, write):
    bad = range(5, 45)
    file = write(50, bad)
    api.max_violations = 15
    done = ask(file)
    assert done.returncode == 1
    require_whole(done.rows, file, refused=bad)
    assert done.stderr.count(f" {BAD} ") == client.NAMED
    assert "and 20 more rows" in done.stderr


def test_a_batch_of_refused_rows_only(api, ask, write):
    file = write(2, [0, 1])
    done = ask(file)
    assert (done.returncode, len(api.requests)) == (1, 1)
    require_whole(done.rows, file, refused=[0, 1])


def test_too_large_a_batch_is_halved(api, ask, write):
    file = write(50, [4])
    api.max_rows = 7
    done = ask(file, "--batch-rows", 20)
    assert done.returncode == 1
    require_whole(done.rows, file, refused=[4])
    # 20, 10, then 5 at a time and for good.
    assert sizes(api)[:3] == [20, 10, 5]
    assert max(sizes(api)[2:]) == 5


def test_the_code_tells_of_too_many_rows(api, ask, write):
    file = write()
    api.plan = [lambda handler: handler.problem(422, "too_many_rows", "10 rows; 5 are allowed")]
    done = ask(file)
    assert (done.returncode, sizes(api)) == (0, [10, 5, 5])
    require_whole(done.rows, file)


@pytest.mark.skipif(sys.platform != "linux", reason="a reset may discard the answer elsewhere")
def test_an_answer_counts_though_the_body_was_not_read(api):
    api.plan = [refuse_unread]
    asked = remote.Api(api.url, "", timeout=10, retries=0)
    assert asked.ask(b"x" * 20_000_000) == (413, {"detail": "too many bytes"})


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422, 500, 301])
def test_what_does_not_pass_is_one_sentence(api, ask, write, code):
    api.plan = [status(code)] * 50
    done = ask(write(1))
    assert (done.returncode, done.rows, len(api.requests)) == (2, None, 1)
    assert len(done.stderr.splitlines()) == 1
    assert f"answered {code}: told {code}." in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"[]",
        {},
        {"predictions": [1]},
        {"predictions": [1, 2], "probabilities": [1]},
        {"predictions": 12, "model": 3},
    ],
)
def test_another_server_is_recognised(api, ask, write, content):
    api.plan = [lambda handler: handler.answer(200, content)]
    done = ask(write(2))
    assert (done.returncode, done.rows) == (2, None)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "violations", [None, 5, [5], [{"index": 2}], [{"index": -1}], [{"index": "0"}]]
)
def test_violations_of_no_row_end_it(api, ask, write, violations):
    api.plan = [lambda handler: handler.problem(422, "x", "broken", violations=violations)] * 50
    assert ask(write(2)).returncode == 2
    assert len(api.requests) == 1


def test_control_characters_do_not_reach_the_terminal(api, ask, write):
    api.plan = [lambda handler: handler.problem(500, "x", "\x1b[2Jgone\nerror: " + "x" * 10_000)]
    done = ask(write(2))
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 500


FIRST = CONTRACT.names[0].encode()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (lambda content: content.replace(FIRST, b"OTHER", 1), "is missing"),
        (lambda content: content.replace(b"note", FIRST, 1), "is there twice"),
        (lambda content: content.replace(b"note", b"prediction", 1), "rename it"),
        (lambda content: b"", "is missing"),
        (lambda content: content + b"1,2\r\n", "line 8: 2 cells"),
        (lambda content: content + b"\xff\r\n", "no text in UTF-8"),
        (lambda content: content + b'"never closed', "no csv file"),
        (lambda content: content + b"x" * 1_100_000, "a line of more than 1,000,000"),
    ],
)
def test_an_unfit_file_is_one_sentence_before_anything_is_sent(api, ask, write, how, sentence):
    file = write(3)
    file.write_bytes(how(file.read_bytes()))
    done = ask(file)
    assert (done.returncode, done.rows, api.requests) == (2, None, [])
    assert len(done.stderr.splitlines()) == 1
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.csv"], "cannot be read: No such file"),
        (["."], "cannot be read"),
        (["rows.csv", "--key-file", "nowhere"], "cannot be read: No such file"),
        (["rows.csv", "--key-file", "rows.csv"], "holds no key"),
        (["rows.csv", "--output", "nowhere/out.csv"], "folder that exists"),
        (["rows.csv", "--output", "."], "folder that exists"),
        (["rows.csv", "--url", ""], "no URL"),
        (["rows.csv", "--url", "127.0.0.1:8000"], "no URL"),
        (["rows.csv", "--url", "http://localhost:http"], "no URL"),
        (["rows.csv", "--url", "http://user:s3cret@localhost"], "no user and password"),
    ],
)
def test_mistakes_are_one_sentence(api, call, write, words, sentence):
    write(2)
    done = call("predict", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert sentence in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [["--batch-rows", "0"], ["--batch-rows", "1000000"], ["--timeout", "nan"], ["--retries", "x"]],
)
def test_options_have_their_bounds(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", "x.csv", *words])
    assert ended.value.code == 2
    assert "is not between" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c_leaves_no_half_file(api, project, write):
    write(30)
    before = sorted(project.folder.iterdir())
    api.plan = [predict, stall]
    words = ("rows.csv", "--url", api.url, "--output", "out.csv", "--batch-rows", 10)
    # A job in the background of a shell inherits an ignored SIGINT.
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = project.start("predict", *words, preexec_fn=listening)
    wait_for(lambda: len(api.requests) == 2, process)
    assert len(list(project.folder.glob(".out.csv.*"))) == 1
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (cli.INTERRUPTED, "interrupted\n")
    assert sorted(project.folder.iterdir()) == before


def test_a_reader_that_has_seen_enough(api, project, write):
    write(1000)
    process = project.start("predict", "rows.csv", "--url", api.url)
    process.stdout.close()
    process.wait(timeout=60)
    assert process.returncode == 2
    assert process.stderr.read() == "error: the reader of the standard output has gone away.\n"


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        (Column("x", "float"), " 5.10 ", 5.1),
        (Column("x", "float"), "+.5e-3", 0.0005),
        (Column("x", "float"), "7", 7.0),
        (Column("x", "float"), "1e999", "1e999"),
        (Column("x", "float"), "inf", "inf"),
        (Column("x", "float"), "1_000", "1_000"),
        (Column("x", "float"), "١", "١"),
        (Column("x", "float"), "five", "five"),
        (Column("x", "float"), "", None),
        (Column("x", "float"), "NaN", None),
        (Column("x", "integer"), "007", 7),
        (Column("x", "integer"), "5.0", 5),
        (Column("x", "integer"), "5.5", 5.5),
        (Column("x", "integer"), "9007199254740993", 9007199254740993),
        (Column("x", "integer"), "-9223372036854775808", -(2**63)),
        (Column("x", "integer"), "9223372036854775808", "9223372036854775808"),
        (Column("x", "integer"), "9" * 5000, "9" * 5000),
        (Column("x", "boolean"), "TRUE", True),
        (Column("x", "boolean"), "0", False),
        (Column("x", "boolean"), "yes", "yes"),
        (Column("x", "category", allowed=("1", "nan")), "1", "1"),
        (Column("x", "category", allowed=("1", "nan")), "nan", "nan"),
        (Column("x", "category", allowed=("1", "2")), "  ", None),
        (Column("x", "category", allowed=(1, 2)), "1", 1),
        (Column("x", "category", allowed=(1, 2)), "1.0", 1),
        (Column("x", "category", allowed=(1, 2)), "one", "one"),
        (Column("x", "date"), "2024-02-30", "2024-02-30"),
        (Column("x", "text"), " 01 ", " 01 "),
    ],
    ids=str,
)
def test_cells_become_what_the_contract_wants(column, cell, value):
    found = parse(column, cell)
    assert (found, type(found)) == (value, type(value))
