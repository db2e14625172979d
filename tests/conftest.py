"""Renders projects for the tests: bake(**answers) gives a Project."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread

import pytest

TEMPLATE = Path(__file__).resolve().parent.parent
QUESTIONS = {
    key: value
    for key, value in json.loads((TEMPLATE / "cookiecutter.json").read_text("utf-8")).items()
    if not key.startswith("_")
}
CHOICES = {key: value for key, value in QUESTIONS.items() if isinstance(value, list)}
# All combinations of the other answers; each combination has one of the providers, in turn.
OTHERS = {key: answers for key, answers in CHOICES.items() if key != "ci_provider"}
COMBINATIONS = [
    dict(zip(OTHERS, answers, strict=True))
    | {"ci_provider": CHOICES["ci_provider"][(number + number // 3) % 3]}
    for number, answers in enumerate(product(*OTHERS.values()))
]
# Answers that render different code; the other questions only fill in a license or a version.
FLAVORS = [
    {"problem_type": problem, "deployment_flavor": flavor}
    for problem, flavor in product(CHOICES["problem_type"], CHOICES["deployment_flavor"])
]
# Three of them, which contain each answer at least once.
EACH = [
    {"problem_type": "classification", "deployment_flavor": "batch"},
    {"problem_type": "regression", "deployment_flavor": "api"},
    {"problem_type": "classification", "deployment_flavor": "both"},
]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = {"python_version": RUNNING} if RUNNING in CHOICES["python_version"] else {}
ENGINE = next((name for name in ("podman", "docker") if shutil.which(name)), None)
# Requests to this machine use no proxy.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Prints rows of the example and the project's predictions for them.
EXPECTED = """
import json
from {package} import settings
from {package}.models import stores
from {package}.contract import CONTRACT
from {package}.models.predict import make_predictions
from {package}.training.split import training_table
rows = training_table(settings.load())[CONTRACT.names].head(10)
model = stores.load_model("models:/{package}@champion", settings.load())
print(json.dumps([{{"data": rows.to_dict("list")}}, make_predictions(model, rows)]))
"""
# The blocks of code in a page: language, code.
FENCES = re.compile(r"(?m)^```(\w+)\n((?:.*\n)*?)```$")
HOSTILE = {
    "quotes": """She said "it's" 'done' `now` \"\"\" '''""",
    "backslash": r"C:\new\table ends in \\",
    "newline": "first line\nsecond line\r\n\tthird line",
    "jinja": "{{ x }} {% if %} {# y #} {{ {{",
    "shell": "$HOME ${x:?no} $(HOME) %PATH% # ; & | * ? ~",
    "markup": "<b>bold</b> [link](x) & | table | --> ]]>",
    "emoji": "🌸 flowers 👩‍🔬",
    "accents": "Previsão de demanda à João — ação nº 1",
    "long": "A name without end " * 16,
}


def verbatim(answer):
    """The answer as text: with --no-input, cookiecutter reads every answer as a Jinja template."""
    return re.sub(r"\{[{%#]", r"{{ '\g<0>' }}", answer)


def label(answers):
    """The id of a test parametrized by answers."""
    return "-".join(answers.values())


@dataclass(frozen=True)
class Project:
    path: Path

    def __str__(self):
        return self.path.name

    @property
    def package(self):
        return self.path.name.replace("-", "_")

    def files(self):
        """Every file's path relative to the project, with slashes, sorted."""
        return sorted(
            path.relative_to(self.path).as_posix()
            for path in self.path.rglob("*")
            if path.is_file()
        )

    def text(self, name):
        return (self.path / name).read_text("utf-8")

    def texts(self):
        """Path and content of every text file."""
        for name in self.files():
            content = (self.path / name).read_bytes()
            if b"\0" not in content:
                yield name, content.decode("utf-8")

    def copy_to(self, folder):
        """A copy to change: the baked project itself is shared between tests."""
        return Project(Path(shutil.copytree(self.path, folder / self.path.name)))

    def run(self, *command):
        """The output of a command in the project; fails the test when the command fails."""
        return run(*command, cwd=self.path)


def run(*command, cwd, **options):
    """The output of a command, stdout and stderr; fails the test when the command fails."""
    done = attempt(*command, cwd=cwd, **options)
    assert done.returncode == 0, f"{' '.join(command)} exited {done.returncode}\n{done.stdout}"
    return done.stdout


def attempt(*command, cwd, **options):
    """The finished process of a command, with stdout and stderr in one stream."""
    program = shutil.which(command[0], path=Path(sys.executable).parent) or command[0]
    return subprocess.run(
        [program, *command[1:]],
        cwd=cwd,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        **options,
    )


def in_environment(project, *command, cwd=None):
    """The output of a program of the project's own environment."""
    program = project.path / ".venv" / "bin" / command[0]
    return run(str(program), *map(str, command[1:]), cwd=cwd or project.path)


def in_shell(programs, code, cwd, program=("bash", "-euc"), seconds=300, **variables):
    """The output of code in an activated environment; the code must not fail."""
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    done = subprocess.run(
        [shutil.which(program[0], path=path), program[1], code],
        cwd=cwd,
        env=clean_environment() | {"PATH": path} | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    return done.stdout


def examples(project):
    """A request with rows of a trained project's example, and the predictions it must return."""
    script = EXPECTED.format(package=project.package)
    return json.loads(in_environment(project, "python", "-c", script).splitlines()[-1])


def free_port():
    """A port below the range from which the system gives ports to clients."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as listening, suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port


def wait_for(condition, seconds, explain):
    """Returns once the condition holds; fails with the explanation after so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(FileNotFoundError):  # a folder that is removed while it is listed
            if condition():
                return
        time.sleep(0.2)
    raise AssertionError(explain())


def is_ready(port):
    """Whether an API on this machine says that it is ready."""
    try:
        with DIRECT.open(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def predict(port, body):
    """The predictions of an API on this machine."""
    url, kind = f"http://127.0.0.1:{port}/predict", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), kind)
    with DIRECT.open(request, timeout=30) as answer:
        return json.load(answer)["predictions"]


def clean_environment():
    """This process's variables, without those of make, pytest and its virtual environment."""
    foreign = ("MAKE", "MFLAGS", "PYTEST", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return kept | {"PYTHONUTF8": "1"}


@pytest.fixture(scope="session")
def bake(cookies_session):
    """Renders the template with these answers, once for every set of answers."""
    projects = {}

    def render(**answers):
        key = tuple(sorted(answers.items()))
        if key not in projects:
            result = cookies_session.bake(
                extra_context={name: verbatim(answer) for name, answer in answers.items()}
            )
            assert result.exception is None, result.exception
            projects[key] = Project(result.project_path)
        return projects[key]

    return render


@pytest.fixture
def refuse(tmp_path):
    """Gives answers that must be refused; returns what the terminal shows."""

    def render(**answers):
        context = [f"{name}={verbatim(answer)}" for name, answer in answers.items()]
        done = attempt(
            "cookiecutter",
            "--no-input",
            "--default-config",
            "-o",
            "out",
            str(TEMPLATE),
            *context,
            cwd=tmp_path,
        )
        left = [path for path in tmp_path.rglob("*") if path.name != "out"]
        assert done.returncode == 1, done.stdout
        assert not left
        return done.stdout

    return render


@pytest.fixture(scope="session")
def install(bake, tmp_path_factory):
    """Renders a project, commits it and makes its environment, once for every set of answers."""
    projects = {}

    def install(**answers):
        key = tuple(answers.values())
        if key not in projects:
            project = bake(**answers, **PYTHON).copy_to(tmp_path_factory.mktemp("generated"))
            project.run("git", "init", "--quiet", "--initial-branch=main")
            commit(project)
            project.run("make", "setup", f"PYTHON={sys.executable}")
            projects[key] = project
        return projects[key]

    return install


def commit(project):
    project.run("git", "add", "--all")
    identity = ("-c", "user.name=A team", "-c", "user.email=team@example.com")
    project.run("git", *identity, "commit", "--quiet", "--message", "Render")


@contextmanager
def serving(project, target, log):
    """The port of an API that a target of make has started."""
    port = free_port()
    with log.open("w") as out:
        process = subprocess.Popen(
            ["make", target],
            cwd=project.path,
            env=clean_environment() | {"PORT": str(port)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_for(lambda: is_ready(port), 600, log.read_text)
        yield port
    finally:
        # Like Ctrl-C: the signal goes to make and all its child processes.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
    assert "Traceback" not in log.read_text("utf-8")


class Advisories(BaseHTTPRequestHandler):
    """An advisory service on this machine that knows one vulnerable package."""

    protocol_version = "HTTP/1.1"
    vulnerable = ""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["package"]["name"]
        package = {"name": name, "ecosystem": "PyPI"}
        events = [{"introduced": "0"}, {"fixed": "99.0"}]
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        found = {"id": "OSV-2026-1", "summary": "One", "details": "One.", "affected": affected}
        content = json.dumps({"vulns": [found]} if name == self.vulnerable else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def audit():
    """The options that let `make audit` ask this machine instead of PyPI."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"--vulnerability-service osv --osv-url http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()
