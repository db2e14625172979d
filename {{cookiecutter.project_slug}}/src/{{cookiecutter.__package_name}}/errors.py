"""Error messages for users: one sentence each, without secrets."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

MASK = "***"
# Patterns of secrets in any text, each with its replacement.
SECRETS = (
    # A URL's password; greedy, because a password that is not encoded may contain @, / or #.
    (re.compile(r"(://[^:/?#@\s]*:)\S*(@)"), rf"\1{MASK}\2"),
    # A token in place of the user, in http URLs only: the user of a database is not a secret.
    (re.compile(r"(https?://)[^:/?#@\s]+(@)"), rf"\1{MASK}\2"),
    # Options such as ?sslpassword=…&sig=…, and a whole ODBC connection string.
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
    """An error for the user: one sentence that says what is wrong, where, and what to do."""


def brief(error: BaseException) -> str:
    """The first line of a library's error, without secrets, to be used within a message."""
    cause = getattr(error, "orig", None) or error
    # pg8000 gives PostgreSQL's answer as fields; fields other than the message may quote data.
    answer = cause.args[0] if cause.args and isinstance(cause.args[0], dict) else {}
    lines = str(answer.get("M") or cause).splitlines()
    return hidden(lines[0]).rstrip(".") if lines else type(error).__name__


@contextmanager
def of_user(what: str) -> Iterator[None]:
    """Turn any exception of a user's function into a message that names the function."""
    try:
        yield
    except ProjectError:
        raise
    except Exception as error:
        name = type(error).__name__
        raise ProjectError(f"{what} ends with {name}: {brief(error)}; -v shows where.") from error


def hidden(text: str) -> str:
    """Mask the secrets of the URLs and connection strings in a text."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text
