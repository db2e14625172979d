"""Does a commit go through NONPROD to PROD and back, by the steps of the pipelines?

Everything is real but small: Debian's registry of images and proxy, containers on this machine.
"""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from conftest import DIRECT, ENGINE, Project, clean_environment, commit, free_port, run, wait_for
from test_pipelines import execute, scripts

ANSWERS = {"problem_type": "classification", "deployment_flavor": "both"}
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("-".join(ANSWERS.values()))]
NEEDED = {"docker-registry": "docker-registry", "htpasswd": "apache2-utils", "skopeo": "skopeo"}
MISSING = [package for name, package in NEEDED.items() if not shutil.which(name)]
MISSING += [] if ENGINE else ["podman"]
if MISSING:
    reason = f"missing: apt-get install {' '.join(MISSING)}"
    pytestmark.append(pytest.mark.skip(reason=reason))
NAME = "iris-flower-prediction"
USER, PASSWORD = "somebody", "a password of nobody"
REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: test, path: {folder}/users}}}}
"""
# The image that a registry would supply if it could be reached.
PROXY = f"""
FROM python:{sys.version_info.major}.{sys.version_info.minor}-slim
RUN apt-get update -q && apt-get install -y -q --no-install-recommends haproxy
USER haproxy
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""
NEXT = """
FROM {image}
LABEL org.opencontainers.image.revision={revision}
COPY predict.py /app/src/{package}/models/predict.py
"""
DEPLOY = (".venv/bin/python", "-u", "ci/deploy.py", ENGINE, "build/release")
LINE = "        labels, probabilities = self.run(matrix)\n"
SLOW = f"        __import__('time').sleep(0.7)\n{LINE}"
OTHERWISE = f"{LINE}        labels = labels[::-1]\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """The address of a registry of images that asks for a password."""
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    run("htpasswd", "-Bbc", str(folder / "users"), USER, PASSWORD, cwd=folder)
    (folder / "config.yml").write_text(REGISTRY.format(folder=folder, port=port), "utf-8")
    with (folder / "log").open("w") as log:
        command = ["docker-registry", "serve", str(folder / "config.yml")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: status(port, "/v2/") == 401, 30, lambda: "no registry")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module", autouse=True)
def proxy(tmp_path_factory):
    """The image of HAProxy, by the name that it has in a registry."""
    name, folder = "docker.io/library/haproxy:3.2", tmp_path_factory.mktemp("proxy")
    (folder / "Dockerfile").write_text(PROXY, "utf-8")
    run(ENGINE, "build", "--quiet", "--tag", name, ".", cwd=folder)


@pytest.fixture(scope="module")
def world(install, registry, tmp_path_factory):
    """A fresh checkout, and the variables that its pipeline would have."""
    server, folder = install(**ANSWERS), tmp_path_factory.mktemp("world")
    run("git", "clone", "--quiet", str(server.path), NAME, cwd=folder)
    ports = {"nonprod": free_port(), "prod": free_port()}
    variables = {"REPOSITORY": f"{registry}/team/{NAME}", "IMAGE": "iris-release"}
    variables |= {"REGISTRY_USER": USER, "REGISTRY_PASSWORD": PASSWORD}
    variables |= {"REGISTRY_AUTH_FILE": str(folder / "auth.json"), "GITHUB_OUTPUT": "/dev/null"}
    yield World(Project(folder / NAME), variables, ports)
    for container in containers():
        run(ENGINE, "rm", "--force", "--time", "0", container, cwd=folder)
    for environment in ports:
        for kind in ("data", "secrets"):
            volume = f"{NAME}-{environment}-{kind}"
            subprocess.run([ENGINE, "volume", "rm", volume], capture_output=True, check=False)


class World:
    def __init__(self, project, variables, ports):
        self.project, self.variables, self.ports = project, variables, ports
        # A pipeline's own variables, so that its steps take seconds.
        self.fast = {"APP__ROLLOUT__CANARY_SECONDS": "4", "APP__ROLLOUT__CANARY_REQUESTS": "40"}
        self.fast |= {"APP__ROLLOUT__LOAD_SECONDS": "3"}
        # With so few requests, a pause of this machine delays more than one in a hundred.
        self.fast |= {"APP__SLO__LATENCY_SHARE": "0.9"}

    def known(self, environment):
        """The variables of the jobs of an environment."""
        known = {"ENVIRONMENT": environment, "CI": "", **self.variables, **self.fast}
        return known | {"APP__ROLLOUT__PUBLISH": f"127.0.0.1:{self.ports[environment]}"}

    def do(self, script, environment, **more):
        """The finished process of a script in the jobs of an environment."""
        return execute(self.project, script, "", **(self.known(environment) | more))

    def begin(self, environment, command, **more):
        """The process of a deployment that has begun."""
        known = {"ENGINE": ENGINE, "PYTHON": sys.executable, **self.known(environment), **more}
        return subprocess.Popen(
            command,
            cwd=self.project.path,
            env=clean_environment() | known,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def retag(self, digest, tag):
        auth = ("--authfile", self.variables["REGISTRY_AUTH_FILE"], "--quiet")
        auth += ("--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests")
        address = f"docker://{self.variables['REPOSITORY']}"
        images = (f"{address}@{digest}", f"{address}:{tag}")
        run("skopeo", "copy", *auth, *images, cwd=self.project.path)

    def green(self, script, environment, **more):
        done = self.do(script, environment, **more)
        assert done.returncode == 0, f"{script}\n{done.stdout[-5000:]}"
        return done.stdout

    def red(self, script, environment, **more):
        done = self.do(script, environment, **more)
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    @property
    def release(self):
        return json.loads(self.project.text("build/release/release.json"))

    def tags(self):
        """The digests by tag of the registry."""
        auth = ("--authfile", self.variables["REGISTRY_AUTH_FILE"], "--tls-verify=false")
        address = f"docker://{self.variables['REPOSITORY']}"
        listed = json.loads(run("skopeo", "list-tags", *auth, address, cwd=self.project.path))
        words = ("inspect", "--no-tags", *auth)
        return {
            tag: json.loads(run("skopeo", *words, f"{address}:{tag}", cwd=self.project.path))[
                "Digest"
            ]
            for tag in listed["Tags"]
        }

    def key(self):
        """An API key of a client of PROD."""
        volume = f"{NAME}-prod-secrets:/app/secrets"
        words = ("run", "--rm", "--env", "ENVIRONMENT=prod", "--volume", volume)
        create = (f"{NAME}:prod", "api-key", "create", f"shop-{time.monotonic_ns()}")
        found = run(ENGINE, *words, *create, cwd=self.project.path).splitlines()[0]
        known = (self.ports["prod"], "/model")
        # A running API reads the file of keys every second.
        wait_for(lambda: status(*known, **{"X-API-Key": found}) == 200, 60, lambda: "unknown key")
        return found

    def next_release(self, **change):
        """The next release, of a new commit; ``change`` replaces a line of predict.py."""
        package, before = self.project.package, self.release
        commit_nothing(self.project)
        folder = self.project.path / "build/next"
        folder.mkdir(parents=True, exist_ok=True)
        text = self.project.text(f"src/{package}/models/predict.py")
        assert LINE in text
        (folder / "predict.py").write_text(text.replace(LINE, change.get("by", LINE)), "utf-8")
        image = f"{before['repository']}@{before['digest']}"
        revision = self.project.run("git", "rev-parse", "HEAD").strip()
        known = {"image": image, "revision": revision, "package": package}
        (folder / "Dockerfile").write_text(NEXT.format(**known), "utf-8")
        self.green(f"{ENGINE} build --quiet --tag iris-release build/next", "nonprod")
        self.green("make publish", "nonprod")
        return self.release


def of_prod():
    return [name for name in containers() if "-prod-" in name]


def commit_nothing(project):
    (project.path / "docs/next.md").write_text(f"{time.monotonic_ns()}\n", "utf-8")
    commit(project)


def containers():
    words = ("ps", "--all", "--format", "{{.Names}}", "--filter", f"name={NAME}-")
    return run(ENGINE, *words, cwd="/").split()


def status(port, path, body=None, **headers):
    """The status of an answer from this machine, 0 if there is none."""
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with DIRECT.open(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


class Clients(threading.Thread):
    """Clients that send requests to PROD without a pause; ``statuses`` counts the answers."""

    def __init__(self, port, key, body):
        super().__init__(daemon=True)
        self.port, self.key, self.body = port, key, body
        self.statuses, self.ended = {}, threading.Event()

    def run(self):
        while not self.ended.is_set():
            found = status(self.port, "/predict", self.body, **{"X-API-Key": self.key})
            self.statuses[found] = self.statuses.get(found, 0) + 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join(30)


@pytest.fixture(scope="module")
def body(world):
    """A request with the first row of the example."""
    lines = world.project.text("data/raw/example.csv").splitlines()[:2]
    row = dict(zip(*(line.split(",") for line in lines), strict=True))
    columns = json.loads(world.project.text("docs/openapi.json"))["components"]["schemas"]
    names = [name for name in row if name in json.dumps(columns)]
    return json.dumps({"data": {name: [float(row[name])] for name in names}}).encode()


def test_a_commit_becomes_the_candidate_of_nonprod(world, bake):
    theirs = [script for _, script, _ in scripts(bake(ci_provider="azure"), "azure", "nonprod")]
    ours = list(scripts(world.project, "github", "nonprod"))
    assert [each for _, each, _ in ours if each not in theirs] == [
        "make login",
        'make digest >>"$GITHUB_OUTPUT"',
    ]
    for _, script, variables in ours:
        given = {name: text for name, text in variables.items() if not name.startswith("REGISTRY")}
        world.green(script, "nonprod", **given)
    release, tags = world.release, world.tags()
    assert release["revision"] == world.project.run("git", "rev-parse", "HEAD").strip()
    assert tags == dict.fromkeys(("nonprod", "candidate", release["revision"]), release["digest"])
    bill = json.loads(world.project.text("build/release/sbom.json"))
    kinds = {component["type"]: component for component in bill["components"]}
    assert kinds["machine-learning-model"]["hashes"][0]["content"] == release["model"]
    names = {component["name"] for component in bill["components"]}
    assert {"onnxruntime", "numpy", "libc6"} <= names
    assert not {"mlflow", "scikit-learn"} & names
    origin = json.loads(world.project.text("build/release/provenance.json"))
    assert f"sha256:{origin['subject'][0]['digest']['sha256']}" == release["digest"]
    sources = origin["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert sources[0]["digest"] == {"gitCommit": release["revision"]}
    assert status(world.ports["nonprod"], "/health/ready") == 200
    assert world.green("make digest", "nonprod").splitlines() == [
        f"repository={release['repository']}",
        f"digest={release['digest']}",
    ]


def test_the_same_image_goes_to_production(world, body):
    # As a job finds the files of an earlier job.
    shutil.copytree(world.project.path / "build/release", world.project.path / "build/arrived")
    for _, script, _ in scripts(world.project, "github", "prod"):
        world.green(script, "prod", RELEASE="build/arrived")
    release, tags = world.release, world.tags()
    assert tags["prod"] == release["digest"]
    assert status(world.ports["prod"], "/predict", body) == 401
    assert status(world.ports["prod"], "/predict", body, **{"X-API-Key": world.key()}) == 200
    history = world.green(f".venv/bin/python -m {world.project.package} history", "prod")
    assert "champion" in history
    assert f"released with {release['repository']}@{release['digest']}" in history
    [tag] = world.project.run("git", "tag", "--points-at", release["revision"]).split()
    notes = world.project.run("git", "tag", "--list", "--format=%(contents)", tag)
    assert release["digest"] in notes
    assert "f1_macro" in notes
    assert "Render" in notes
    # What the schedule of the batch job runs.
    inspect = (ENGINE, "image", "inspect", f"{NAME}:prod", "--format", "{{json .Config.Labels}}")
    labels = json.loads(run(*inspect, cwd=world.project.path))
    assert labels["org.opencontainers.image.revision"] == release["revision"]


def test_a_new_version_takes_over_share_by_share_and_no_request_is_lost(world, body):
    before = world.release
    after = world.next_release()
    with Clients(world.ports["prod"], world.key(), body) as clients:
        said = world.green("make deploy", "prod")
    assert "With 10 % of the requests" in said
    assert "With 50 % of the requests" in said
    assert "0 of 150 predictions changed" in said
    assert set(clients.statuses) == {200}
    assert clients.statuses[200] > 100
    tags = world.tags()
    assert (tags["prod"], tags["prod-previous"]) == (after["digest"], before["digest"])
    assert len(of_prod()) == 2  # it and the proxy


def test_a_version_that_is_too_slow_is_taken_back(world, body):
    before, tags = world.release, world.tags()
    world.next_release(by=SLOW)
    with Clients(world.ports["prod"], world.key(), body) as clients:
        said = world.red("make deploy", "prod")
    assert "it misses its objectives: " in said
    assert "took at most 0.5 s, 90.00% must" in said
    assert "The old version has all requests again." in said
    assert set(clients.statuses) == {200}
    assert world.tags()["prod"] == tags["prod"] == before["digest"]
    write(world, before)


def test_a_version_with_other_predictions_is_refused_unless_that_is_meant(world):
    before, tags = world.release, world.tags()
    world.next_release(by=OTHERWISE)
    said = world.red("make deploy", "prod")
    assert "of the predictions changed, 10.00% may: APP__ROLLOUT__MAX_CHANGED_SHARE" in said
    assert world.tags()["prod"] == tags["prod"]
    write(world, before)


def write(world, release):
    file = world.project.path / "build/release/release.json"
    file.write_text(json.dumps(release, indent=2) + "\n", "utf-8")


def test_a_rollout_that_is_cancelled_is_taken_back(world, body):
    before = world.release
    world.next_release()
    with Clients(world.ports["prod"], world.key(), body) as clients:
        known = [each for _, each, _ in scripts(world.project, "github", "prod")]
        [script] = [each for each in known if "make deploy" in each]
        command = ["bash", "-e", "-c", script]
        process = world.begin("prod", command, APP__ROLLOUT__CANARY_SECONDS="60")
        wait_for(lambda: len(of_prod()) == 3, 600, lambda: process.communicate()[0])
        time.sleep(10)
        process.terminate()  # only the process that was started, as a provider's agent does
        said = process.communicate(timeout=300)[0]
    assert process.returncode == -signal.SIGTERM, said
    assert "The old version has all requests again." in said
    assert set(clients.statuses) == {200}
    assert len(of_prod()) == 2
    # The key of the rollout's own requests has been removed too.
    words = ("run", "--rm", "--env", "ENVIRONMENT=prod")
    words += ("--volume", f"{NAME}-prod-secrets:/app/secrets", f"{NAME}:prod", "api-key", "list")
    names = run(ENGINE, *words, cwd=world.project.path)
    assert "shop-" in names
    assert "rollout-" not in names
    write(world, before)


def test_a_rollout_that_died_is_taken_back_or_begun_anew_and_no_request_is_lost(world, body):
    before = world.release
    after = world.next_release()
    with Clients(world.ports["prod"], world.key(), body) as clients:
        process = world.begin("prod", DEPLOY, APP__ROLLOUT__CANARY_SECONDS="60")
        wait_for(lambda: len(of_prod()) == 3, 600, lambda: str(of_prod()))
        time.sleep(10)
        process.kill()
        process.communicate(timeout=30)
        assert len(of_prod()) == 3
        assert f"@{before['digest']}" in world.green("make rollback", "prod")
        assert len(of_prod()) == 2
        process = world.begin("prod", DEPLOY, APP__ROLLOUT__CANARY_SECONDS="60")
        wait_for(lambda: len(of_prod()) == 3, 600, lambda: str(of_prod()))
        time.sleep(10)
        assert "is at work in another process" in world.red("make rollback", "prod")
        process.kill()
        process.communicate(timeout=30)
        world.green("make deploy", "prod")
    assert set(clients.statuses) == {200}
    tags = world.tags()
    assert (tags["prod"], tags["prod-previous"]) == (after["digest"], before["digest"])


def test_a_release_whose_tag_was_not_moved_is_what_a_rollback_undoes(world):
    """As if the registry could not be reached after the requests had moved."""
    tags = world.tags()
    world.next_release()
    world.green("make deploy", "prod")
    for tag in ("prod", "prod-previous"):
        world.retag(tags[tag], tag)
    assert f"@{tags['prod']}" in world.green("make rollback", "prod").partition(";")[0]
    assert world.tags()["prod"] == tags["prod"]
    write(world, world.release | json.loads(world.project.text("build/rollback/release.json")))


def test_the_release_before_is_put_back_and_only_once(world):
    previous = world.tags()["prod-previous"]
    # Even if the current version has ended, as a broken one would.
    [serving] = [name for name in of_prod() if not name.endswith("-proxy")]
    run(ENGINE, "stop", "--time", "0", serving, cwd=world.project.path)
    said = world.green("make rollback", "prod")
    assert f"prod goes back to {world.variables['REPOSITORY']}@{previous}" in said
    assert world.tags()["prod"] == previous
    assert "Nothing serves here" not in said
    assert "is the champion already" in said  # both releases have the same model
    assert "prod has no previous release to go back to." in world.red("make rollback", "prod")


def test_an_older_release_does_not_take_over(world):
    newer = world.next_release()
    world.green("make deploy", "prod")
    older = newer | {"revision": world.project.run("git", "rev-parse", "HEAD~1").strip()}
    write(world, older)
    assert "does not come after" in world.red("make deploy", "prod")
    write(world, newer)


def test_a_machine_that_was_lost_gets_back_what_it_had_before_it_gets_more(world):
    for name in of_prod():
        run(ENGINE, "rm", "--force", "--time", "0", name, cwd=world.project.path)
    world.next_release()
    said = world.green("make deploy", "prod")
    assert "Nothing serves here: first " in said
    assert "With 50 % of the requests" in said


def test_what_is_missing_or_wrong_is_told_in_a_sentence(world):
    said = world.red("make publish", "nonprod", REPOSITORY="no-registry")
    assert "name a repository of images, registry first" in said
    said = world.red("make deploy", "prod", RELEASE="build/nothing")
    assert "build/nothing/release.json is missing or damaged: `make publish` writes it." in said
    said = world.red("make publish", "nonprod", IMAGE="no-such-image")
    assert "error: " in said
    with (world.project.path / "ci/proxy/haproxy.cfg").open("a", encoding="utf-8") as file:
        file.write("    nonsense\n")
    assert "unknown keyword 'nonsense'" in world.red("make deploy", "prod")
    ready = (world.ports["prod"], "/health/ready")
    wait_for(lambda: status(*ready) == 200, 120, lambda: str(status(*ready)))
    world.project.run("git", "checkout", "ci/proxy/haproxy.cfg")
    said = world.red("make deploy", "prod", APP__SLO__LATENCY_SECONDS="0.4")
    assert "slo.latency_seconds = 0.4: choose one of 0.001" in said


def test_the_lines_of_the_documentation_limit_a_clients_rate(world, tmp_path):
    lines = world.project.text("docs/api.md").partition("```haproxy\n")[2].partition("```")[0]
    folder = shutil.copytree(world.project.path / "ci/proxy", tmp_path / "proxy")
    file, bind, most = folder / "haproxy.cfg", "    bind :8000\n", " gt 1000"
    text = file.read_text("utf-8")
    assert bind in text
    assert most in lines
    file.write_text(text.replace(bind, bind + lines.replace(most, " gt 20")), "utf-8")
    run(ENGINE, "build", "--quiet", "--tag", "limited", ".", cwd=folder)
    name, port = "limited", free_port()
    words = ("--detach", "--name", name, "--publish", f"127.0.0.1:{port}:8000")
    run(ENGINE, "network", "create", name, cwd=folder)
    try:
        run(ENGINE, "run", *words, "--network", name, "limited", cwd=folder)
        # No API runs behind the proxy.
        wait_for(lambda: status(port, "/") == 503, 60, lambda: "no proxy")
        found = [status(port, "/") for _ in range(30)]
    finally:
        run(ENGINE, "rm", "--force", "--time", "0", name, cwd=folder)
        run(ENGINE, "network", "rm", name, cwd=folder)
    assert (found[0], found[-1]) == (503, 429)
