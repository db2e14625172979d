"""A change that a workflow proposes: a commit on its own branch, and a request to merge it.

The checked-out branch and the staged files stay as they are.
"""

import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import forge
import http_json
import origin

AUTHOR = "{{ cookiecutter.project_slug }} workflow"
EMAIL = "{{ cookiecutter.author_email }}"


def propose(branch: str, title: str, body: str, *paths: str, **files: str) -> str | None:
    """Propose the present state of these paths for the main branch; returns the change's address.

    A change that is already open for this branch is updated. None: nothing differs from HEAD.

    :param files: contents by path, of files that are only written to the commit.
    :raises ProjectError: the commit, the push or the request fails.
    """
    revision = commit(title, *paths, **files)
    if revision is None:
        return None
    push(revision, branch)
    return forge.open_change(branch, title, body)


def commit(message: str, *paths: str, **files: str) -> str | None:
    """A commit on top of HEAD with these paths and files; None if nothing differs."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        origin.git("read-tree", "HEAD", **index)
        if paths:
            origin.git("add", "--all", "--", *paths, **index)
        for path, content in files.items():
            blob = origin.git("hash-object", "-w", "--stdin", given=content)
            origin.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", **index)
        tree = origin.git("write-tree", **index)
    if tree == origin.git("rev-parse", "--verify", "HEAD^{tree}"):
        return None
    who = {"GIT_AUTHOR_NAME": AUTHOR, "GIT_AUTHOR_EMAIL": EMAIL}
    who |= {"GIT_COMMITTER_NAME": AUTHOR, "GIT_COMMITTER_EMAIL": EMAIL}
    return origin.git("commit-tree", tree, "-p", "HEAD", "-m", message, **who)


def push(revision: str, branch: str) -> None:
    """Set a branch of ``origin`` to this revision, by force.

    git gets the token in environment variables: it is in no command line and no file, and git
    sends it to this server only.
    """
    target, variables = origin.url(), {"GIT_TERMINAL_PROMPT": "0"}
    if target.startswith(("http://", "https://")):
        server = "{0.scheme}://{0.netloc}/".format(urlsplit(target))
        header = "Authorization: " + http_json.basic(forge.USER, forge.token())
        settings = {f"http.{server}.extraHeader": header, "http.followRedirects": "false"}
        variables["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (key, value) in enumerate(settings.items()):
            variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    what = f"{revision}:refs/heads/{branch}"
    origin.git("push", "--quiet", "--force", "--end-of-options", target, what, **variables)
