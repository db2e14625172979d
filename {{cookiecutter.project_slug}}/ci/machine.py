"""The API on one machine: a proxy, the version that serves and, during a rollout, the new one.

The two versions are called blue and green; either one can be the newer. The containers share a
network, and only the proxy has a port on the machine, ``rollout.publish``. Kept predictions and
the hashes of API keys are in volumes, which outlive the containers.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import container
from container import LOCKED, RIGHTS, run
from release import NAME, Release, given

from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.settings import Settings

COLOURS = ("blue", "green")
PROXY = Path(__file__).with_name("proxy")
HERE, THERE = "127.0.0.1:8000", "proxy:8000"
# The timeout of a container's start, and of a command in it.
START_SECONDS = 120
# To answer open requests and deliver kept predictions, see "How it ends" in docs/api.md.
GRACE_SECONDS = 50
# After this time a running API has read the file of keys again.
KEY_SECONDS = 2
# Scripts for a version's container: send a request, print an example, send a command to the proxy.
ASK = """
import os, sys, urllib.error, urllib.request
url, body = sys.argv[1], sys.argv[2].encode() if len(sys.argv) > 2 else None
headers = {"Content-Type": "application/json", "X-Request-ID": "rollout-" + os.urandom(8).hex()}
if key := os.environ.get("API_KEY"):
    headers["X-API-Key"] = key
request = urllib.request.Request(url, body, headers)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    sys.stdout.write(opener.open(request, timeout=30).read().decode())
except urllib.error.HTTPError as error:
    sys.exit(f"{url} answers {error.code}: {error.read(1000).decode()}")
except OSError as error:
    sys.exit(f"{url}: {error}")
"""
EXAMPLE = """
import json
from {{ cookiecutter.__package_name }}.contract import CONTRACT
try:
    from {{ cookiecutter.__package_name }}.api.openapi import example_of
except ModuleNotFoundError:  # a version from before the rooms
    from {{ cookiecutter.__package_name }}.openapi import example_of
print(json.dumps({"data": {column.name: [example_of(column)] for column in CONTRACT.columns}}))
"""
TELL = """
import socket, sys, time
until = time.monotonic() + 30
while True:
    try:
        proxy = socket.create_connection((sys.argv[2], 9999), 10)
        break
    except OSError:  # it has just been started
        if time.monotonic() > until:
            raise
        time.sleep(0.2)
with proxy:
    proxy.sendall(sys.argv[1].encode() + b"\\n")
    proxy.shutdown(socket.SHUT_WR)
    sys.stdout.write(b"".join(iter(lambda: proxy.recv(65536), b"")).decode())
"""


class Machine:
    """The containers of one environment.

    :param environment: its name; ``config`` holds its settings.
    """

    def __init__(self, engine: str, environment: str, config: Settings) -> None:
        self.engine, self.environment, self.config = engine, environment, config
        self.name = f"{NAME}-{environment}"
        self.key = ""

    def start_proxy(self) -> None:
        """Start the network and the proxy; a proxy with another configuration is replaced.

        :raises ProjectError: the new proxy does not work; then the previous one keeps running.
        """
        proxy, publish = f"{self.name}-proxy", self.config.rollout.publish
        files = sorted(path.read_bytes() for path in PROXY.iterdir())
        wanted = hashlib.sha256(b"".join([publish.encode(), *files])).hexdigest()
        known = container.inspect(self.engine, proxy)
        if known and known["State"]["Running"] and labels(known).get("proxy") == wanted:
            return
        with suppress(ProjectError):
            run(self.engine, "network", "create", self.name)
        run(self.engine, "build", "--tag", proxy, str(PROXY), seconds=container.TRANSFER_SECONDS)
        once = (self.engine, "run", "--rm", *LOCKED, "--entrypoint=haproxy", proxy)
        run(*once, "-c", "-f", "/usr/local/etc/haproxy/haproxy.cfg")
        options = ("--label", f"proxy={wanted}", "--publish", f"{publish}:8000", "--memory=256m")
        with self._aside(proxy, known):
            self._start(proxy, "proxy", proxy, *options)

    def start(self, colour: str, release: Release) -> None:
        """Start a version; it gets no requests yet.

        :raises ProjectError: it is not ready in START_SECONDS.
        """
        try:
            self._tell(f"set server versions/{colour} weight 0", through=self.other(colour))
        except ProjectError:
            if self._is_steady(self.other(colour)):
                raise
            # The other version keeps crashing, so it has no requests that the new one could get.
        self.stop(colour)
        label = ("--label", f"digest={release.digest}")
        memory = f"--memory={self.config.rollout.memory_mb}m"
        self._start(self.at(colour), colour, release.image, *label, memory, *self._given())
        self.wait(lambda: self.ask(colour, "/health/ready"), colour)
        self._tell(f"set server versions/{colour} weight 0", through=colour)

    def stop(self, colour: str) -> None:
        container.remove(self.engine, self.at(colour), GRACE_SECONDS)

    def at(self, colour: str) -> str:
        return f"{self.name}-{colour}"

    @staticmethod
    def other(colour: str) -> str:
        return COLOURS[1 - COLOURS.index(colour)]

    def running(self) -> dict[str, str]:
        """The digests of the versions that run, by colour."""
        found = {}
        for colour in COLOURS:
            known = container.inspect(self.engine, self.at(colour))
            if known and known["State"]["Running"]:
                found[colour] = labels(known).get("digest", "")
        return found

    def serving(self, digest: str | None) -> str | None:
        """The colour that runs this digest, otherwise any colour that runs, or None."""
        running = self.running()
        same = [colour for colour in running if running[colour] == digest]
        return next(iter([*same, *running]), None)

    def share(self, colour: str, percent: int) -> None:
        """Send this percentage of the requests to a version, and the rest to the other one.

        :raises ProjectError: the proxy does not find it healthy in START_SECONDS.
        """
        self.wait(lambda: self._require_up(colour), colour)
        self.weigh(colour, percent)

    def weigh(self, colour: str, percent: int) -> None:
        """Like ``share``, but without waiting until the version is healthy."""
        weights = ((colour, percent), (self.other(colour), 100 - percent))
        for each, weight in weights:
            self._tell(f"set server versions/{each} weight {weight}", through=colour)

    def require_share(self, colour: str, percent: int) -> None:
        """:raises ProjectError: the proxy uses other shares, for example after a restart."""
        said = self._tell(f"get weight versions/{colour}", through=colour)
        if not said.startswith(f"{percent} "):
            raise ProjectError(f"the proxy has forgotten the share of {percent} %: {said.strip()}.")

    def ask(self, colour: str, path: str, body: dict | None = None, at: str = HERE) -> str:
        """A version's answer; with ``at=THERE`` the proxy chooses the version."""
        words = ("python", "-c", ASK, f"http://{at}{path}")
        return self._inside(colour, *words, *([json.dumps(body)] if body else []))

    def example(self, colour: str) -> dict:
        """The body of a request with one row, from the version's own contract."""
        return json.loads(self.run_in(colour, EXAMPLE))

    def metrics(self, colour: str) -> str:
        return self.ask(colour, "/metrics")

    def run_in(self, colour: str, script: str, *words: str, seconds: float = START_SECONDS) -> str:
        """Run a script with Python in a version's container, and return its output."""
        return self._inside(colour, "python", "-c", script, *words, seconds=seconds)

    @contextmanager
    def with_key(self, image: str) -> Iterator[None]:
        """An API key for our own requests, if the API requires one; it is revoked at the end."""
        if not self.config.authentication.required:
            yield
            return
        name = f"rollout-{secrets.token_hex(4)}"
        once = (self.engine, "run", "--rm", *RIGHTS, "--network=none", *self._given(), image)
        try:
            told = run(*once, "api-key", "create", name, "--days", "1")
            self.key = told.strip().splitlines()[-1]
            time.sleep(KEY_SECONDS)
            yield
        finally:
            self.key = ""
            with suppress(ProjectError):  # it may not exist; if it does, it expires in a day
                run(*once, "api-key", "revoke", name)

    @contextmanager
    def _aside(self, name: str, known: dict | None) -> Iterator[None]:
        """Set a container aside: it is removed if its replacement starts, otherwise restored."""
        before = f"{name}-before"
        container.remove(self.engine, before)
        if known:
            run(self.engine, "rename", name, before)
            run(self.engine, "stop", "-t", "0", before)
        try:
            yield
        except BaseException:
            container.remove(self.engine, name)
            if known:
                run(self.engine, "rename", before, name)
                run(self.engine, "start", name)
            raise
        container.remove(self.engine, before)

    def _start(self, name: str, alias: str, image: str, *options: str) -> None:
        where = ("--network", self.name, "--network-alias", alias, "--restart=always")
        logs = ("--log-driver=json-file", "--log-opt=max-size=50m")
        run(self.engine, "run", "--detach", "--name", name, *where, *logs, *RIGHTS, *options, image)

    def _given(self) -> tuple[str, ...]:
        """Options of every container of a version, with the volume for the hashes of API keys."""
        return (*given(self.environment), "--volume", f"{self.name}-secrets:/app/secrets")

    def _is_steady(self, colour: str) -> bool:
        """Whether a version runs, and has not restarted since it was started."""
        known = container.inspect(self.engine, self.at(colour)) or {"State": {}}
        state = known["State"]
        return bool(state.get("Running") and not state.get("Restarting")) and not known.get(
            "RestartCount"
        )

    def _require_up(self, colour: str) -> None:
        said = self._tell("show stat versions 4 -1", through=colour)
        for line in said.splitlines():
            if line.startswith(f"versions,{colour},") and ",UP," in line:
                return
        raise ProjectError("the proxy does not find it healthy")

    def _tell(self, line: str, through: str) -> str:
        """Send the proxy a command through a version; does nothing if that version does not run."""
        known = container.inspect(self.engine, self.at(through))
        if not known or not known["State"]["Running"]:
            return ""
        # By its address: while containers come and go, names are answered late, or not at all.
        proxy = container.inspect(self.engine, f"{self.name}-proxy") or {"NetworkSettings": {}}
        networks = proxy["NetworkSettings"].get("Networks") or {}
        address = networks.get(self.name, {}).get("IPAddress") or "proxy"
        return self._inside(through, "python", "-c", TELL, line, address)

    def _inside(self, colour: str, *words: str, seconds: float = START_SECONDS) -> str:
        known = ("--env", "API_KEY") if self.key else ()
        command = (self.engine, "exec", *known, self.at(colour), *words)
        return run(*command, seconds=seconds, **({"API_KEY": self.key} if self.key else {}))

    def wait(self, attempt, colour: str) -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                return attempt()
            except ProjectError as problem:
                known = container.inspect(self.engine, self.at(colour))
                if time.monotonic() > until or not known or not known["State"]["Running"]:
                    raise ProjectError(self._why(colour, problem)) from None
                time.sleep(0.5)

    def _why(self, colour: str, problem: ProjectError) -> str:
        with suppress(ProjectError):
            said = run(self.engine, "logs", "--tail", "5", self.at(colour)).strip()
            return f"the new version is not ready: {said or problem}"
        return f"the new version is not ready: {problem}"


def labels(known: dict) -> dict[str, str]:
    """The labels of a container that ``inspect`` has described."""
    return known["Config"].get("Labels") or {}
