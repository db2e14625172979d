"""Requests that go through the model together: each gets its own answer, whatever happens."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from iris_flower_prediction.api.batching import LONGEST_ON_LOOP, Batcher
from iris_flower_prediction.api.problems import Problem
from iris_flower_prediction.api.values import Rows
from iris_flower_prediction.contract import CONTRACT

FAST, SLOW = LONGEST_ON_LOOP / 1000, LONGEST_ON_LOOP * 2


class Model:
    """Answers 1 minus its only column; counts its calls. ``cost`` is in seconds for a row."""

    name, version = "model", "1"

    def __init__(self, cost: float) -> None:
        self.cost, self.calls = cost, []

    def seconds(self, rows: int) -> float:
        return self.cost * rows

    def codes(self, matrix):
        self.calls.append(len(matrix))
        return 1 - matrix[:, 0].astype(float), None


class BrokenSpool:
    def append(self, *_):
        raise RuntimeError("the disk is on fire")


def rows(*values):
    return Rows(np.array([values], np.float32).T, {"X": list(values)})


def own(*codes):
    """Values of the target by their numeric form."""
    return CONTRACT.target.decode(np.array(codes, float)).tolist()


def ask(model, requests, spool=None):
    """The outcome of each request, all of which arrive at the same time: values or the error."""
    nothing = SimpleNamespace(queue_wait=id, predicted=lambda *_: None, not_kept=id)

    async def run():
        batcher = Batcher(nothing, spool, 5)
        try:
            asked = [batcher.predict(model, each, "id", "") for each in requests]
            return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
        finally:
            batcher.close()

    found = asyncio.run(run())
    return [each if isinstance(each, Exception) else each.values for each in found]


@pytest.mark.parametrize("cost", [FAST, SLOW])
def test_requests_of_the_same_moment_go_together_and_get_their_own_answers(cost):
    model = Model(cost)
    found = ask(model, [rows(0, 1), rows(1), rows(1, 0, 0)])
    assert found == [own(1, 0), own(0), own(0, 1, 1)]
    assert model.calls == [6]


@pytest.mark.parametrize("cost", [FAST, SLOW])
def test_an_answer_that_is_no_number_is_refused_and_only_that(cost):
    one, other = ask(Model(cost), [rows(1, np.inf), rows(0)])
    assert isinstance(one, Problem) and one.more["violations"][0]["index"] == 1
    assert other == own(1)


@pytest.mark.parametrize("cost", [FAST, SLOW])
def test_what_fails_while_answers_are_kept_is_told_to_every_request(cost):
    outcomes = ask(Model(cost), [rows(1), rows(2)], BrokenSpool())
    assert [str(each) for each in outcomes] == ["the disk is on fire"] * 2
