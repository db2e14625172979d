"""What the API answers, to good requests and to bad ones."""

import json
import math

import pytest
from api_process import example, free_port
from conftest import PACKAGE, wait_for

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models.artifact import open_model
from iris_flower_prediction.models.predict import make_predictions

FIRST = CONTRACT.names[0]
DEEP = b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
HUGE = b'{"data": {"%s": [1%s]}}' % (FIRST.encode(), b"0" * 5000)
# Bodies that are no request, and the status and the code of the answer.
MALFORMED = {
    "empty": (b"", 400, "malformed"),
    "no JSON": (b"{", 400, "malformed"),
    "NaN": (b'{"data": {"%s": [NaN]}}' % FIRST.encode(), 400, "malformed"),
    "Infinity": (b'{"data": {"%s": [-Infinity]}}' % FIRST.encode(), 400, "malformed"),
    "not UTF-8": (b'{"data": "\xff"}', 400, "malformed"),
    "UTF-16": ('{"data": {}}'.encode("utf-16"), 400, "malformed"),
    "nested deeply": (DEEP, 400, "malformed"),
    "a number of 5000 digits": (HUGE, 400, "malformed"),
    "no object": (b"[1]", 422, "contract"),
    "no data": (b"{}", 422, "contract"),
    "data is no object": (b'{"data": 5}', 422, "contract"),
    "another model": (b'{"model": "other", "data": {}}', 404, "unknown_model"),
    "model is no text": (b'{"model": 5, "data": {}}', 404, "unknown_model"),
}


def columns(examples, count=20):
    """The first rows of the examples as JSON values by column."""
    rows = examples[CONTRACT.names].head(count)
    table = json.loads(rows.to_json(orient="split", date_format="iso"))
    values = zip(*table["data"], strict=True)
    return dict(zip(table["columns"], map(list, values), strict=True))


def problem(answer, status, code):
    """The members of a problem that has this status and code."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    found = answer.json
    assert (found["status"], found["code"], found["type"]) == (status, code, "about:blank")
    assert found["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in found["detail"] and found["detail"][-1] in ".?"
    return found


def violation(api, changed, path="/predict"):
    """The only violation of the example after a change."""
    data = example()["data"] | changed
    found = problem(api.post(path, {"data": data}), 422, "contract")
    assert found["violations_total"] == len(found["violations"]) == 1
    return found["violations"][0]


def test_predictions_are_those_of_the_model(api, champion, examples):
    data = columns(examples)
    answer = api.post("/predict", {"model": PACKAGE, "data": data})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    expected = make_predictions(open_model(champion), examples[CONTRACT.names].head(20))
    assert answer.json == {"predictions": json.loads(json.dumps(expected, default=str))}
    assert api.post("/predict", {"data": data}).json == answer.json


def test_head_is_get_without_a_body(api):
    for path in ("/health/live", "/health/ready", "/ping", "/model", "/metrics", "/docs"):
        answer = api.ask("HEAD", path, None, {})
        assert (answer.status, answer.body) == (200, b""), path
    assert api.post("/predict", example()).status == 200


def test_details_on_request(api, champion):
    answer = api.post("/predict?detail=true", example(2)).json
    metadata = open_model(champion).metadata
    assert answer["model"] == {"name": PACKAGE, "version": metadata["version"]}
    assert ("probabilities" in answer) == metadata["probabilities"]
    shares = answer.get("class_probabilities", {})
    if metadata["probabilities"]:
        assert [*shares] == CONTRACT.target.class_names
        each = [*zip(*shares.values(), strict=True)]
        assert [max(row) for row in each] == answer["probabilities"]
        assert [sum(row) for row in each] == pytest.approx([1, 1])
    assert set(api.post("/predict?detail=false", example()).json) == {"predictions"}
    problem(api.post("/predict?detail=maybe", example()), 422, "parameter")


def test_no_rows_give_no_predictions(api):
    assert api.post("/predict", example(0)).json == {"predictions": []}


@pytest.mark.parametrize(("body", "status", "code"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_request_is_refused(api, body, status, code):
    problem(api.post("/predict", body), status, code)


def test_a_duplicate_key_counts_once(api):
    text = json.dumps(example())
    twice = text[:-1] + ", " + text[1:]
    assert api.post("/predict", twice.encode()).json == api.post("/predict", example()).json


def test_a_misspelt_column_is_named_with_what_was_meant(api):
    meant = max(CONTRACT.names, key=len)
    name = f"{meant}_"
    data = {name if key == meant else key: values for key, values in example()["data"].items()}
    found = problem(api.post("/predict", {"data": data}), 422, "contract")
    reasons = {each["column"]: each["reason"] for each in found["violations"]}
    assert reasons[name] == f"is no column of the contract, did you mean {meant}?"
    assert reasons[meant] == f"is missing (is {name} meant to be {meant}?)"


def test_columns_must_be_lists_of_one_length(api):
    assert violation(api, {FIRST: 5})["reason"] == "is no list of values, such as [1, 2]"
    data = example(2)["data"] | {CONTRACT.names[-1]: example()["data"][CONTRACT.names[-1]]}
    found = problem(api.post("/predict", {"data": data}), 422, "contract")
    assert found["violations"][0]["column"] == CONTRACT.names[-1]
    assert "has 1 values" in found["violations"][0]["reason"]


@pytest.mark.parametrize("column", CONTRACT.columns, ids=lambda column: column.name)
def test_every_column_is_checked_as_the_contract_says(api, column):
    wrong = {"float": "text", "integer": 1.5, "boolean": "yes", "category": "?", "date": "soon"}
    found = violation(api, {column.name: [wrong[column.type]]})
    assert (found["column"], found["index"]) == (column.name, 0)
    assert found["value"] == wrong[column.type]
    if not column.nullable:
        assert violation(api, {column.name: [None]})["reason"] == "is missing"
    if column.type in ("float", "integer"):
        low, high = column.drawn_from
        if high is not None:
            above = violation(api, {column.name: [math.ceil(high) + 1]})
            assert above["reason"] == f"is above the maximum {high:g}"
        if low is not None:
            below = violation(api, {column.name: [math.floor(low) - 1]})
            assert below["reason"] == f"is below the minimum {low:g}"
        body = json.dumps({"data": example()["data"] | {column.name: ["here"]}})
        answer = api.post("/predict", body.replace('"here"', "1e400").encode())
        assert "finite" in problem(answer, 422, "contract")["detail"]


def test_the_bounds_themselves_keep_the_contract(api):
    for column in CONTRACT.columns:
        for bound in column.drawn_from if column.type in ("float", "integer") else ():
            if bound is not None and (column.type == "float" or bound == int(bound)):
                data = example()["data"] | {column.name: [bound]}
                assert api.post("/predict", {"data": data}).status == 200


def test_all_violations_are_counted_and_the_first_are_listed(api):
    data = example(500)["data"] | {FIRST: [None] * 500}
    found = problem(api.post("/predict", {"data": data}), 422, "contract")
    assert found["violations_total"] == 500
    assert [each["index"] for each in found["violations"]] == list(range(100))


def test_the_two_ways_of_reading_agree(api, examples):
    """Both ways of reading a request give the same predictions."""
    data = columns(examples)
    quick = api.post("/predict", {"data": data}).json
    rows = examples[CONTRACT.names].head(20).to_json(orient="split", date_format="iso")
    body = '{"dataframe_split": ' + rows + "}"
    assert api.post("/invocations", body.encode()).json == quick


def test_limits(serve):
    api = serve(APP__API__MAX_ROWS=3, APP__API__MAX_BODY_BYTES=1000)
    assert api.post("/predict", example(3)).status == 200
    assert problem(api.post("/predict", example(4)), 422, "too_many_rows")["most_rows"] == 3
    problem(api.post("/predict", b" " * 2000), 413, "body_size")
    assert api.post("/predict", example()).status == 200


def test_other_media_types_and_encodings_are_refused(api):
    body = json.dumps(example()).encode()
    for kind in ("application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        problem(api.post("/predict", body, **{"Content-Type": kind}), 415, "media_type")
    problem(api.post("/predict", body, Content_Encoding="gzip"), 415, "encoding")
    kind = 'application/json; charset="UTF-8"'
    assert api.post("/predict", body, **{"Content-Type": kind}).status == 200


def test_paths_and_methods(api):
    problem(api.get("/nothing"), 404, "path")
    assert problem(api.get("/predict"), 405, "method")
    assert api.get("/predict").headers["allow"] == "POST"
    problem(api.post("/model", {}), 405, "method")


def test_a_request_keeps_its_id_if_it_is_harmless(api):
    def answered(id):
        return api.post("/predict", example(), X_Request_Id=id).headers["x-request-id"]

    assert answered("order-7") == "order-7"
    for id in ("a b", "x" * 65, 'a"b'):
        assert answered(id) != id
    assert len({answered("") for _ in range(5)}) == 5


def test_what_is_known_of_the_model(api, champion):
    found, metadata = api.get("/model").json, open_model(champion).metadata
    assert (found["name"], found["version"]) == (PACKAGE, metadata["version"])
    assert found["alias"] == "champion"
    assert found["sha256"] == metadata["sha256"]
    assert found["metrics"] == metadata["metrics"] and found["metrics"]
    assert found["trained_at"] == metadata["trained_at"]
    assert found["contract"] == json.loads(json.dumps(CONTRACT.describe()))


def test_health(api):
    assert api.get("/health/live").json == {"live": True}
    assert api.get("/health/ready").json == {"ready": True}


def test_the_log_has_a_line_for_each_request_and_nothing_of_its_content(api):
    api.post("/predict", example(), X_Request_Id="in-the-log")

    def logged():
        return [line for line in api.logs() if line.get("request_id") == "in-the-log"]

    (line,) = wait_for(logged)
    assert (line["event"], line["path"], line["status"]) == ("request", "/predict", 200)
    assert line["ms"] > 0
    assert FIRST not in json.dumps(line)


def test_metrics_count_what_happened(serve, champion):
    api = serve()
    api.post("/predict", example(7))
    api.post("/predict", {"data": example()["data"] | {FIRST: [None]}})
    api.get("/nothing")
    found = api.metrics()
    version = open_model(champion).metadata["version"]

    def requests(route, status, model=PACKAGE, version=version):
        labels = f'model="{model}",route="{route}",status="{status}",version="{version}"'
        return found.get("http_requests_total{" + labels + "}")

    assert requests("/predict", 200) == requests("/predict", 422) == 1
    assert requests("other", 404, "", "") == 1
    assert found['contract_violations_total{column="' + FIRST + '"}'] == 1
    assert found['http_errors_total{code="contract",route="/predict",status_class="4xx"}'] == 1
    for status, count in ((200, 1), (422, 1), (503, 0)):
        series = f'{{le="0.5",route="/predict",status="{status}"}}'
        assert found[f"http_request_duration_seconds_bucket{series}"] == count
    predicted = [n for series, n in found.items() if series.startswith("predictions_total")]
    assert sum(predicted) == 7
    assert found["http_requests_in_flight_limit"] == 64
    assert any(series.startswith("model_info{") for series in found)
    assert wait_for(lambda: api.metrics().get("predictions_kept_total") == 7)


def test_an_inference_that_is_refused_at_once_counts_as_one(serve, project):
    key = project.run("api-key", "create", "shop").stdout.split()[-1]
    api = serve(APP__AUTHENTICATION__REQUIRED="true")
    assert api.post(f"/v2/models/{PACKAGE}/infer", {}).status == 401
    series = 'model="",route="/v2/models/{name}/infer",status="401",version=""'
    count = f"http_requests_total{{{series}}} 1.0"
    wait_for(lambda: count in api.get("/metrics", **{"X-API-Key": key}).body.decode())


def requests_of(found) -> list[float]:
    ours = "http_requests_total{", 'route="/predict",status="200"'
    return [n for series, n in found.items() if all(each in series for each in ours)]


def test_metrics_of_all_workers_are_added_up(serve):
    api = serve("--workers", "2")
    for _ in range(40):
        assert api.post("/predict", example()).status == 200
    assert wait_for(lambda: sum(requests_of(api.metrics())) == 40)
    assert wait_for(lambda: api.metrics()["http_requests_in_flight_limit"] == 128)


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"APP__API__PORT": "0"}, "api.port"),
        ({"APP__API__HOST": "192.0.2.1"}, "cannot be listened on"),
        ({"APP__AUTHENTICATION__REQUIRED": "true"}, "api-key create"),
        ({"APP__MODELS__URI": "nowhere"}, "holds no model"),
        ({"APP__MODELS__URI": "models:/nothing@champion"}, "`train` makes one"),
        ({"ENVIRONMENT": "prod"}, "api-key create"),
        ({"APP__DATABASE": "mysql://db.example/flowers"}, "driver MySQLdb is not"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_sentence(project, champion, chosen, sentence):
    model = {} if "APP__MODELS__URI" in chosen else {"APP__MODELS__URI": champion}
    done = project.run("serve", **(model | {"APP__API__PORT": free_port()} | chosen))
    assert done.returncode == 2
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1


def test_a_taken_port_is_refused(project, champion, api):
    done = project.run("serve", "--model", champion, "--port", api.port)
    assert done.returncode == 2 and "cannot be listened on" in done.stderr
