"""Secrets are never shown: what is masked in settings, messages, logs, manifests and tables."""

import re

MASK = "***"
# In a value of any kind: what stays, before what is masked.
SECRETS = (
    # A URL's password, greedily, as one that is not encoded may hold an @ or a slash itself.
    (re.compile(r"(://[^:/?#@\s]*:)[^#\s]*(@)"), rf"\1{MASK}\2"),
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


def hidden(text: str) -> str:
    """A text without the secrets of the URLs and connection strings in it."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text
