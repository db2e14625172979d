"""Answers that say what is wrong with a request: RFC 9457, application/problem+json."""

import json
from collections import Counter
from http import HTTPStatus
from typing import Any

import msgspec

CONTENT_TYPE = "application/problem+json"


class Violation(msgspec.Struct):
    """A value that breaks the contract; of a whole column or request where there is no index."""

    column: str | None
    index: int | None
    value: Any
    reason: str


class ProblemBody(msgspec.Struct):
    """RFC 9457; some problems tell more."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    violations: list[Violation] = []
    violations_total: int | None = None
    most_rows: int | None = None


class Problem(Exception):  # noqa: N818 - the name the standard gives it
    """Why a request is not answered with a prediction.

    :param code: a fixed word for the kind of problem, such as ``contract``; metrics count by it.
    :param detail: what is wrong, where, and what to do, in one sentence without any secret.
    :param headers: of the answer, such as ``{"Retry-After": "1"}``.
    :param more: further members of the answer, such as ``violations``.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.more = headers or {}, more
        # How many values of which column broke the contract.
        self.columns: Counter[str | None] = Counter()

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase

    def body(self, path: str, request_id: str, **more: Any) -> bytes:
        answer = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": path,
            "code": self.code,
            "request_id": request_id,
            **self.more,
            **more,
        }
        return json.dumps(answer, default=str).encode()


def unauthenticated(detail: str, challenge: str = 'Bearer error="invalid_token"') -> Problem:
    """401 with the challenge of RFC 6750; it names no error where no credential was sent."""
    return Problem(401, "authentication", detail, {"WWW-Authenticate": challenge})
