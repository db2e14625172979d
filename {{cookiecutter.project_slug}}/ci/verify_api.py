"""Check the deployed API: its model, a prediction, its description, and a little load.

``python ci/verify_api.py ENGINE FOLDER`` asks the API in ENVIRONMENT through its proxy, and then
puts load on it: ``rollout.load_connections`` for ``rollout.load_seconds``. Exit code 1: it serves
another release than that in FOLDER, breaks clients of docs/openapi.json, or misses an objective.
"""

import json
import sys
import time
from pathlib import Path

import release
import slo
from machine import THERE, Machine
from program import call
from release import Release
from rollout import check, judge

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.api.describe import breaking
from {{ cookiecutter.__package_name }}.errors import ProjectError

# Arguments: connections, seconds, body. Each connection sends its next request as soon as the last
# one is answered; after 429 it waits. Prints the number of answers for each other status.
LOAD = """
import collections, http.client, json, os, sys, threading, time
connections, until = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
headers, had = {"Content-Type": "application/json", "X-Request-ID": "rollout-load"}, []
if key := os.environ.get("API_KEY"):
    headers["X-API-Key"] = key
def ask():
    api = http.client.HTTPConnection("proxy", 8000, timeout=30)
    while time.monotonic() < until:
        api.request("POST", "/predict", sys.argv[3].encode(), headers)
        answer = api.getresponse()
        answer.read()
        if answer.status == 429:
            time.sleep(min(float(answer.headers.get("Retry-After") or 1), 5))
        else:
            had.append(answer.status)
threads = [threading.Thread(target=ask) for _ in range(connections)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(collections.Counter(had)))
"""


def verify_deployed(engine: str, folder: str) -> None:
    machine = Machine(engine, release.environment(), settings.load())
    verify(machine, release.read(Path(folder)))


def verify(machine: Machine, deployed: Release) -> None:
    """:raises ProjectError: the deployed API fails a check."""
    colour = machine.serving(deployed.digest)
    if not colour or machine.running()[colour] != deployed.digest:
        raise ProjectError(f"{deployed.image} does not run: `make deploy`.")
    with machine.with_key(deployed.image):
        machine.wait(lambda: machine.ask(colour, "/model"), colour)  # until it knows the key
        check(machine, colour, deployed, at=THERE)
        print(f"It serves model {deployed.model[:12]} and answers the contract's example.")
        if machine.config.api.docs:
            described = json.loads(machine.ask(colour, "/openapi.json", at=THERE))
            promised = json.loads(Path("docs/openapi.json").read_text("utf-8"))
            if broken := breaking(promised, described):
                raise ProjectError(f"clients of docs/openapi.json would break: {broken[0]}.")
            print("It describes itself as docs/openapi.json promises.")
        if machine.config.rollout.load_seconds:
            put_load_on(machine, colour)


def put_load_on(machine: Machine, colour: str) -> None:
    """:raises ProjectError: it misses an objective, or the load got no predictions."""
    config = machine.config
    before = slo.counts(machine.metrics(colour), config.slo)
    load = (str(config.rollout.load_connections), str(config.rollout.load_seconds))
    longest = config.rollout.load_seconds + 60
    body = json.dumps(machine.example(colour))
    had = json.loads(machine.run_in(colour, LOAD, *load, body, seconds=longest))
    if not had or any(status != "200" and status < "500" for status in had):
        raise ProjectError(f"the load was not answered with predictions: {had or 'nothing'}.")
    time.sleep(2)  # the workers' metrics are collected once a second
    seen = slo.counts(machine.metrics(colour), config.slo) - before
    if seen.requests < sum(had.values()):
        raise ProjectError(f"the answers were {had}, but it has counted {seen}.")
    judge(seen, config.slo)
    print(f"Under load for {config.rollout.load_seconds:g} s: {seen}.")


if __name__ == "__main__":
    sys.exit(call(verify_deployed, "ENGINE FOLDER", sys.argv[1:]))
