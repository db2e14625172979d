"""A server of this machine in place of GitHub, GitLab or Azure DevOps: git, and what an API keeps.

Everything needs the token. A subclass has the routes of one provider; an answer that the provider
would not give is not given here either.
"""

import base64
import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from conftest import CHECKOUT, SECONDS

TOKEN = "a-token-of-this-test-only"  # noqa: S105


class Refusal(Exception):  # noqa: N818
    """What the server answers in place of what was asked for."""

    def __init__(self, status: int, told: str = "", **headers: str) -> None:
        self.status, self.told, self.headers = status, told, headers


def route(method: str, pattern: str) -> Callable:
    """Marks what answers requests to a path; groups of the pattern are its first arguments."""

    def mark(function: Callable) -> Callable:
        function.route = (method, re.compile(pattern))
        return function

    return mark


class Loopback:
    """``asked`` are all requests, as method, path and body; ``trouble`` may spoil one."""

    REPOSITORY, USER = "", ""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.trouble: Callable[[str, str], None] = lambda method, path: None
        self.numbers = iter(range(1, 10_000))
        self.bare = folder / self.REPOSITORY.lstrip("/")
        self.root = folder
        self.bare.parent.mkdir(parents=True)
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        git(self.bare, "config", "http.receivepack", "true")
        marked = [name for name in dir(type(self)) if hasattr(getattr(type(self), name), "route")]
        self.routes = [getattr(self, name) for name in marked]
        handler = type("ForOne", (Handler,), {"forge": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def origin(self) -> str:
        return f"{self.url}{self.REPOSITORY}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def branch(self, name: str) -> str | None:
        """The commit of a branch."""
        return self.named(f"refs/heads/{name}")

    def named(self, reference: str) -> str | None:
        words = ("rev-parse", "--quiet", "--verify", reference + "^{commit}")
        return git(self.bare, *words, check=False) or None

    def authorized(self, headers: Any) -> bool:
        raise NotImplementedError

    def answer(self, method: str, target: str, headers: Any, body: Any) -> Any:
        parts = urlsplit(target)
        self.asked.append((method, parts.path, body))
        if not self.authorized(headers):
            raise Refusal(401, "Bad credentials")
        self.trouble(method, parts.path)
        for each in self.routes:
            found = each.route[1].fullmatch(parts.path)
            if found and each.route[0] == method:
                words = [unquote(group) for group in found.groups()]
                return each(*words, query=dict(parse_qsl(parts.query)), body=body)
        raise Refusal(404, "Not Found")


class Handler(BaseHTTPRequestHandler):
    forge: Loopback

    def handle_one(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if urlsplit(self.path).path.startswith(self.forge.REPOSITORY + "/"):
            return self.git(content)
        try:
            body = json.loads(content) if content else None
            found = self.forge.answer(self.command, self.path, self.headers, body)
            self.respond(204 if found is None else 200, found)
        except Refusal as error:
            self.respond(error.status, {"message": error.told}, error.headers)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815

    def respond(self, status: int, content: Any, headers: dict | None = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def git(self, content: bytes) -> None:
        """As git's own server answers, to whoever has the token."""
        known = base64.b64encode(f"{self.forge.USER}:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {known}":
            return self.respond(401, {"message": "no"}, {"WWW-Authenticate": 'Basic realm="git"'})
        parts = urlsplit(self.path)
        variables = os.environ | {
            "GIT_PROJECT_ROOT": str(self.forge.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "REMOTE_USER": "somebody",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "CONTENT_LENGTH": str(len(content)),
        }
        command = [shutil.which("git"), "http-backend"]
        done = subprocess.run(
            command, input=content, env=variables, capture_output=True, timeout=SECONDS, check=True
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200")[:3]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


def forge_server() -> ModuleType:
    """The module with the server of the provider that the rendered project was made for."""
    folders = {"github": ".github", "gitlab": ".gitlab", "azure": ".azuredevops"}
    [provider] = [name for name, folder in folders.items() if (CHECKOUT / folder).exists()]
    return importlib.import_module(f"forge_server_{provider}")


def need(body: Any, *names: str) -> dict:
    """A body that has all that the documentation requires."""
    lacking = [name for name in names if not isinstance(body, dict) or body.get(name) is None]
    if lacking:
        raise Refusal(422, f"missing: {', '.join(lacking)}")
    return body


def git(folder: Path, *words: str, check: bool = True) -> str:
    """What git prints, with the name of somebody."""
    identity = ("-c", "user.name=A team", "-c", "user.email=team@example.com")
    command = [shutil.which("git"), *identity, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def hub(tmp_path):
    """The server of this project's provider."""
    hub = forge_server().Forge(tmp_path / "hub")
    yield hub
    hub.stop()


@pytest.fixture
def pushed(project, hub):
    """The project, committed and pushed to ``main`` of the server."""
    shutil.copytree(CHECKOUT / "ci", project.folder / "ci")
    shutil.copy(CHECKOUT / ".gitignore", project.folder)
    git(project.folder, "init", "--quiet", "--initial-branch=main")
    git(project.folder, "add", "--all")
    git(project.folder, "commit", "--quiet", "--message", "First")
    git(project.folder, "push", "--quiet", str(hub.bare), "main")
    git(project.folder, "remote", "add", "origin", hub.origin)
    return project
