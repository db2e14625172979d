"""What a user is told when something is wrong: one sentence, without secrets."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

MASK = "***"
# In a value of any kind: what stays, before what is masked.
SECRETS = (
    # A URL's password, greedily, as one that is not encoded may hold @, / or # itself.
    (re.compile(r"(://[^:/?#@\s]*:)\S*(@)"), rf"\1{MASK}\2"),
    # A token in place of the user; a database's user alone is no secret.
    (re.compile(r"(https?://)[^:/?#@\s]+(@)"), rf"\1{MASK}\2"),
    # ?sslpassword=…&sig=…, and a whole connection string of ODBC.
    (
        re.compile(
            r"(?i)([?&;][^=&;#]*(?:pass|pwd|secret|token|key|sig|cred|odbc)[^=&;#]*=)[^&;#]*"
        ),
        rf"\1{MASK}",
    ),
)
SECRET_NAME = re.compile(
    r"passw|pwd|secret|token|credential|private|account\.key|\.sas\.", re.IGNORECASE
)


class ProjectError(Exception):
    """What is wrong, where, and what to do about it, in one sentence for the user."""


def brief(error: BaseException) -> str:
    """The first line of a library's error, without secrets, to be part of a sentence of ours."""
    cause = getattr(error, "orig", None) or error
    # PostgreSQL's answer as pg8000 gives it; its other fields may quote data.
    answer = cause.args[0] if cause.args and isinstance(cause.args[0], dict) else {}
    lines = str(answer.get("M") or cause).splitlines()
    return hidden(lines[0]).rstrip(".") if lines else type(error).__name__


@contextmanager
def of_user(what: str) -> Iterator[None]:
    """Whatever a function of the user's own raises, as a sentence that names it."""
    try:
        yield
    except ProjectError:
        raise
    except Exception as error:
        name = type(error).__name__
        raise ProjectError(f"{what} ends with {name}: {brief(error)}; -v shows where.") from error


def hidden(text: str) -> str:
    """A text without the secrets of the URLs and connection strings in it."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text
