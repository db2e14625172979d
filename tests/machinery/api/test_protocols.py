"""The protocols of others, asked by their own clients: each gives the predictions of /predict."""

import json
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tritonclient.http as triton
from api_process import example
from conftest import PACKAGE
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from iris_flower_prediction.api import inference_protocol, mlflow_protocol
from iris_flower_prediction.api.problems import Problem
from iris_flower_prediction.contract import CONTRACT

ROWS = 20
FIRST = CONTRACT.names[0]
NUMBERS = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}
MODEL = f"/v2/models/{PACKAGE}"


@pytest.fixture(scope="module")
def table(examples) -> pd.DataFrame:
    """Rows as a client has them, without gaps: a tensor of whole numbers cannot hold one."""
    return examples[CONTRACT.names].dropna().head(ROWS)


@pytest.fixture(scope="module")
def split(table) -> dict:
    """The same as JSON values: columns, index, and data."""
    return json.loads(table.to_json(orient="split", date_format="iso"))


@pytest.fixture(scope="module")
def columns(split) -> dict:
    values = map(list, zip(*split["data"], strict=True))
    return dict(zip(split["columns"], values, strict=True))


@pytest.fixture(scope="module")
def records(split) -> list[dict]:
    return [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]


@pytest.fixture(scope="module")
def expected(api, columns) -> list:
    """What /predict answers to these rows."""
    predictions = api.post("/predict", {"data": columns}).json["predictions"]
    assert len(predictions) == ROWS
    return predictions


def problem(answer, status, code, path="/invocations"):
    """The detail of an answer that is this problem."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    found = answer.json
    assert (found["code"], found["instance"]) == (code, path)
    assert found["detail"][-1] in ".?" and "\n" not in found["detail"]
    assert found.get("error", found["detail"]) == found["detail"]
    return found["detail"]


# MLflow's


@pytest.fixture
def mlflow(api):
    return ScoringServerClient("127.0.0.1", api.port)


@pytest.mark.slow
def test_mlflow_client(mlflow, api, table, expected):
    mlflow.ping()
    mlflow.wait_server_ready(5)
    assert mlflow.get_version() == api.get("/model").json["version"]
    assert mlflow.invoke(table).get_predictions().iloc[:, 0].tolist() == expected


def test_mlflow_client_is_told_what_is_wrong(mlflow, table):
    with pytest.raises(Exception, match=f"422.*column {FIRST} is missing"):
        mlflow.invoke(table.drop(columns=FIRST))


def test_every_form_of_mlflow(api, table, split, columns, records, expected):
    forms = {
        "dataframe_split": split,
        "dataframe_records": records,
        "instances": records,
        "inputs": columns,
    }
    for form, content in forms.items():
        assert api.post("/invocations", {form: content}).json == {"predictions": expected}, form
    for form in ("instances", "inputs"):  # rows without names, in the contract's order
        assert api.post("/invocations", {form: split["data"]}).json == {"predictions": expected}
    assert api.post("/invocations", {"inputs": records}).json == {"predictions": expected}
    with_more = {"params": {"a": 1}, "dataframe_split": split}
    assert api.post("/invocations", with_more).json == {"predictions": expected}


@pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=utf-8", "Text/CSV;header=present"])
def test_csv(api, table, expected, kind):
    body = table.to_csv(index=False)
    for text in (body, "\ufeff" + body, body.replace("\n", "\r\n"), body + "\n\n"):
        answer = api.post("/invocations", text.encode(), Content_Type=kind)
        assert answer.json == {"predictions": expected}


def test_a_single_row_as_mlflow_takes_it(api):
    row = {name: values[0] for name, values in example()["data"].items()}
    expected = api.post("/predict", example()).json
    for content in ({"inputs": row}, {"dataframe_records": [row]}, {"instances": [row]}):
        assert api.post("/invocations", content).json == expected


def test_other_columns_are_left_out_in_any_order(api, table, records, expected):
    wider = table[CONTRACT.names[::-1]].assign(OTHER="x", more=1.5)
    forms = {
        "dataframe_split": json.loads(wider.to_json(orient="split", date_format="iso")),
        "dataframe_records": [{"OTHER": [1]} | record for record in records],
        "inputs": json.loads(wider.to_json(orient="columns", date_format="iso")),
    }
    forms["inputs"] = {name: list(cells.values()) for name, cells in forms["inputs"].items()}
    for form, content in forms.items():
        assert api.post("/invocations", {form: content}).json == {"predictions": expected}, form
    answer = api.post("/invocations", wider.to_csv().encode(), Content_Type="text/csv")
    assert answer.json == {"predictions": expected}


@pytest.mark.parametrize("column", CONTRACT.columns, ids=lambda column: column.name)
@pytest.mark.parametrize("written", ["NaN", "null", ""])
def test_a_missing_value(api, column, written):
    data = example()["data"] | {column.name: ["here"]}
    if written:
        kind, body = "application/json", json.dumps({"inputs": data}).replace('"here"', written)
    else:
        kind, body = "text/csv", pd.DataFrame(data).replace("here", None).to_csv(index=False)
    answer = api.post("/invocations", body.encode(), Content_Type=kind)
    if column.nullable:
        expected = api.post("/predict", {"data": data | {column.name: [None]}})
        assert answer.json == expected.json
    else:
        detail = problem(answer, 422, "contract")
        assert detail.startswith(f"column {column.name}, index 0") and "is missing" in detail


ROW = [values[0] for values in example()["data"].values()]
SHORT = {name: ROW[:1] * (name != FIRST) for name in CONTRACT.names}
# What is none of the forms, and a part of the sentence that refuses it.
BAD = {
    "no object": ([1], "send one of dataframe_split"),
    "no form": ({}, "send one of dataframe_split"),
    "that of /predict": (example(), "send one of dataframe_split"),
    "two forms": ({"inputs": [], "instances": []}, "send one of"),
    "split, null": ({"dataframe_split": None}, "expected `object`, got `null`"),
    "split, no data": ({"dataframe_split": {"columns": []}}, "required field `data`"),
    "split, number": (
        {"dataframe_split": {"columns": 5, "data": []}},
        "expected `array | null`",
    ),
    "split, no name": (
        {"dataframe_split": {"columns": [[]], "data": []}},
        "columns[0]: expected",
    ),
    "split, no row": ({"dataframe_split": {"data": [5]}}, f"is no list of {len(ROW)} values"),
    "records, texts": ({"dataframe_records": ["a"]}, "row 0 is no list"),
    "records, a column gone": ({"dataframe_records": [{"a": 1}]}, "is missing"),
    "instances, number": ({"instances": 5}, "no object of columns"),
    "instances, short row": ({"instances": [ROW, ROW[1:]]}, "row 1 is no list"),
    "instances, a name less": (
        {"instances": [dict(zip(CONTRACT.names, ROW, strict=True)), {FIRST: ROW[0]}]},
        "rows 0 and 1 differ in having",
    ),
    "instances, mixed": ({"instances": [{}, ROW]}, "is no list of"),
    "instances, too deep": ({"instances": [[[value] for value in ROW]]}, "is not"),
    "inputs, lengths": ({"inputs": SHORT}, f"1 values and {FIRST} has 0"),
}
NAMES = ",".join(CONTRACT.names).encode()
BAD_CSV = {
    "nothing": (b"", 422, "is missing"),
    "no UTF-8": (b"\xff\xfe", 400, "not UTF-8"),
    "short line": (NAMES + b"\n1", 422, "row 0 is no list"),
    "long cell": (b"a" * 200_000, 400, "cannot be read as csv"),
    "no names": (b"1,2\n3,4\n", 422, "is missing"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_form_is_one_clear_problem(api, content, sentence):
    assert sentence in problem(api.post("/invocations", content), 422, "contract")


@pytest.mark.parametrize(("body", "status", "sentence"), BAD_CSV.values(), ids=BAD_CSV)
def test_bad_csv_is_one_clear_problem(api, body, status, sentence):
    answer = api.post("/invocations", body, Content_Type="text/csv")
    assert sentence in problem(answer, status, "malformed" if status == 400 else "contract")


def test_what_is_no_json_is_refused(api):
    problem(api.post("/invocations", b""), 400, "malformed")


def test_rows_are_limited_in_every_form(api):
    many = [ROW] * 10_001
    for content in ({"instances": many}, {"dataframe_split": {"data": many}}):
        problem(api.post("/invocations", content), 422, "too_many_rows")


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "text"])
def test_other_media_types_are_refused(api, kind):
    problem(api.post("/invocations", {"inputs": []}, Content_Type=kind), 415, "media_type")


def test_no_rows_give_no_predictions(api):
    for content in (
        {"instances": []},
        {"dataframe_split": {"columns": CONTRACT.names, "data": []}},
        {"inputs": example(0)["data"]},
    ):
        assert api.post("/invocations", content).json == {"predictions": []}


def test_rows_with_names_of_their_own_take_little_memory():
    body = json.dumps({"instances": [{f"X{row}": 1} for row in range(3000)]}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(Problem, match="is missing"):
            mlflow_protocol.rows(CONTRACT, "application/json", body, 10_000)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


# The Open Inference Protocol, version 2


@pytest.fixture(scope="module")
def client(api):
    client = triton.InferenceServerClient(f"127.0.0.1:{api.port}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def tensors(client, table):
    """tensors(): one tensor for each column, of the types that the server names."""
    described = client.get_model_metadata(PACKAGE)["inputs"]
    assert [each["name"] for each in described] == CONTRACT.names

    def make() -> list[triton.InferInput]:
        made = []
        for each in described:
            kind, values = each["datatype"], table[each["name"]]
            if kind == "BYTES":
                array = np.array([str(value).encode() for value in values], np.object_)
            else:
                array = values.to_numpy(NUMBERS[kind])
            made.append(triton.InferInput(each["name"], [ROWS], kind))
            made[-1].set_data_from_numpy(array, binary_data=False)
        return made

    return make


def predicted(result) -> list:
    """The predictions of a result, BYTES as texts."""
    values = result.as_numpy("predictions").tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def test_health_and_metadata(client, api):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(PACKAGE)
    server = client.get_server_metadata()
    assert (server["name"], server["version"]) == (PACKAGE, CONTRACT.version)
    known = api.get("/model").json
    found = client.get_model_metadata(PACKAGE, known["version"])
    assert (found["name"], found["versions"]) == (PACKAGE, [known["version"]])
    detailed = api.post("/predict?detail=true", example()).json
    outputs = [each["name"] for each in found["outputs"]]
    assert outputs == ["predictions", "probabilities"][: 1 + ("probabilities" in detailed)]
    assert api.get("/ping").json == {"ready": True}


def test_a_tensor_for_each_column(client, api, tensors, columns, expected):
    result = client.infer(PACKAGE, tensors(), request_id="mine-7")
    answer = result.get_response()
    assert (answer["model_name"], answer["id"]) == (PACKAGE, "mine-7")
    assert answer["model_version"] == api.get("/model").json["version"]
    assert predicted(result) == expected
    detailed = api.post("/predict?detail=true", {"data": columns}).json
    for output in answer["outputs"]:
        assert output["shape"] == [ROWS]
        assert output["data"] == detailed[output["name"]]


def test_only_the_outputs_that_are_asked_for(client, tensors):
    wanted = [triton.InferRequestedOutput("predictions", binary_data=False)]
    answer = client.infer(PACKAGE, tensors(), outputs=wanted).get_response()
    assert [output["name"] for output in answer["outputs"]] == ["predictions"]
    with pytest.raises(triton.InferenceServerException, match="other"):
        client.infer(PACKAGE, tensors(), outputs=[triton.InferRequestedOutput("other")])


def is_number(column):
    return column.numbered or column.type in ("float", "integer")


@pytest.mark.skipif(not all(map(is_number, CONTRACT.columns)), reason="a tensor has one datatype")
@pytest.mark.parametrize("kind", ["FP32", "FP64"])
def test_one_tensor_with_all_columns(client, table, expected, kind):
    matrix = table.to_numpy(np.float32 if kind == "FP32" else np.float64)
    tensor = triton.InferInput("input", list(matrix.shape), kind)
    tensor.set_data_from_numpy(matrix, binary_data=False)
    assert predicted(client.infer(PACKAGE, [tensor])) == expected


def test_a_version_may_be_named(client, api, tensors, expected):
    version = api.get("/model").json["version"]
    assert client.is_model_ready(PACKAGE, version)
    assert predicted(client.infer(PACKAGE, tensors(), version)) == expected
    assert not client.is_model_ready(PACKAGE, "77")
    with pytest.raises(triton.InferenceServerException, match="version '77' does not serve"):
        client.infer(PACKAGE, tensors(), "77")


def test_another_model_is_unknown(client, api, tensors):
    assert not client.is_model_ready("other")
    for ask in (client.get_model_metadata, lambda name: client.infer(name, tensors())):
        with pytest.raises(triton.InferenceServerException, match="no model 'other'"):
            ask("other")
    detail = problem(api.get("/v2/models/other"), 404, "unknown_model", "/v2/models/other")
    assert api.get("/v2/models/other").json["error"] == detail


def test_bad_values_are_told_to_the_client(client, tensors):
    made = tensors()
    made[0].set_shape([ROWS + 1])
    with pytest.raises(triton.InferenceServerException, match=f"does not fit {ROWS} values"):
        client.infer(PACKAGE, made)
    with pytest.raises(triton.InferenceServerException, match=f"column {FIRST} is missing"):
        client.infer(PACKAGE, tensors()[1:])


def tensor(column=FIRST, **changes):
    """A tensor of the example as JSON, changed; None takes a member away."""
    data = example()["data"][column]
    found = {"name": column, "shape": [1], "datatype": "FP64", "data": data}
    return {key: value for key, value in (found | changes).items() if value is not None}


# Changes of the first tensor, and a part of the sentence that refuses it.
BAD_TENSORS = {
    "no name": ({"name": 5}, "inputs[0].name: expected `str`"),
    "another name": ({"name": "other"}, "other is no column"),
    "no shape": ({"shape": None}, "required field `shape`"),
    "empty shape": ({"shape": []}, "expected `array` of length >= 1"),
    "negative": ({"shape": [-1]}, "expected `int` >= 0"),
    "true": ({"shape": [True]}, "expected `int`, got `bool`"),
    "fraction": ({"shape": [1.0]}, "expected `int`, got `float`"),
    "two columns": ({"shape": [1, 2], "data": [1, 2]}, "is no shape"),
    "three dimensions": ({"shape": [1, 1, 1]}, "of length <= 2"),
    "thousands of dimensions": ({"shape": [9999] * 100_000}, "of length <= 2"),
    "too many values": ({"data": [1, 2]}, "does not fit 2 values"),
    "too few values": ({"shape": [2]}, "does not fit 1 values"),
    "no data": ({"data": None}, "required field `data`"),
    "no list": ({"data": 5}, "inputs[0].data: expected `array`"),
    "deep": ({"data": [[[[1]]]]}, "does not fit"),
    "rows of another shape": (
        {"shape": [2, 1], "data": [[1, 2]]},
        "does not fit 2 values",
    ),
    "rows of many lengths": ({"shape": [2, 2], "data": [[1], [1, 2, 3]]}, "does not fit 4 values"),
    "no datatype": ({"datatype": None}, "required field `datatype`"),
    "another datatype": ({"datatype": "FP8"}, "invalid enum value 'FP8'"),
    "a list as datatype": ({"datatype": ["FP64"]}, "expected `str`"),
    "a text": ({"data": ["?"]}, "is not"),
    "half a character": ({"datatype": "\ud800"}, "half a character"),
}


@pytest.mark.parametrize(("changes", "sentence"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_a_bad_tensor_is_one_clear_problem(api, changes, sentence):
    good = [tensor(name) for name in CONTRACT.names]
    assert api.post(f"{MODEL}/infer", {"inputs": good}).status == 200
    answer = api.post(f"{MODEL}/infer", {"inputs": [tensor(**changes), *good[1:]]})
    detail = problem(answer, 422, "contract", f"{MODEL}/infer")
    assert sentence in detail
    assert answer.json["error"] == detail


@pytest.mark.parametrize("inputs", [None, 5, [], {}, [5], [[]], [tensor()] * 10_001])
def test_what_is_no_inference_request_is_refused(api, inputs):
    for body in ({"inputs": inputs}, inputs):
        problem(api.post(f"{MODEL}/infer", body), 422, "contract", f"{MODEL}/infer")
    problem(api.post(f"{MODEL}/infer", b"{"), 400, "malformed", f"{MODEL}/infer")


def test_what_else_a_request_may_say(api):
    inputs = [tensor(name, parameters={"content_type": "np"}) for name in CONTRACT.names]
    good = {"inputs": inputs, "parameters": {"a": 1}, "id": "", "outputs": []}
    for same in ({}, {"id": None, "outputs": None, "parameters": None}):
        assert "id" not in api.post(f"{MODEL}/infer", good | same).json
    outputs = ({}, [5], [{"name": []}], [{"name": "probability"}])
    for wrong in ({"id": 5}, {"id": "\ud800"}, *[{"outputs": each} for each in outputs]):
        problem(api.post(f"{MODEL}/infer", good | wrong), 422, "contract", f"{MODEL}/infer")


def test_probabilities_of_a_model_that_has_none_are_refused():
    asked = {
        "inputs": [tensor(name) for name in CONTRACT.names],
        "outputs": [{"name": "probabilities"}],
    }
    asked = inference_protocol.request(json.dumps(asked).encode())
    served = SimpleNamespace(model=SimpleNamespace(metadata={"probabilities": False}))
    with pytest.raises(Problem, match="the model has no probabilities"):
        inference_protocol.rows(asked, served, ROWS)


def test_binary_data_is_refused(api):
    answer = api.post(f"{MODEL}/infer", b"{}1234", Inference_Header_Content_Length="2")
    assert "as JSON" in problem(answer, 415, "media_type", f"{MODEL}/infer")
