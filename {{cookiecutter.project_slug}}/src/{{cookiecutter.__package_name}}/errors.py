"""The one exception that the command line turns into a sentence instead of a traceback."""

from .masking import hidden


class ProjectError(Exception):
    """What is wrong, where, and what to do about it, in one sentence for the user."""


def brief(error: BaseException) -> str:
    """The first line of a library's error, without secrets, to be part of a sentence of ours."""
    cause = getattr(error, "orig", None) or error
    # PostgreSQL's answer as pg8000 gives it; its other fields may quote data.
    answer = cause.args[0] if cause.args and isinstance(cause.args[0], dict) else {}
    lines = str(answer.get("M") or cause).splitlines()
    return hidden(lines[0]).rstrip(".") if lines else type(error).__name__
