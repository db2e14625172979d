"""Canary rollout: a new version of the API replaces the old one in steps, if it keeps its SLO.

It starts beside the old version and is checked before it gets requests. Then it gets the shares in
``rollout.canary``, each for ``rollout.canary_seconds``. If its metrics miss an objective, the old
version gets all requests again, and the new one is removed.
"""

import json
import time

import slo
from machine import START_SECONDS, Machine
from release import Release

from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.monitoring.slo.of_api import require_edge

# Percentages of the requests.
Shares = tuple[int, ...]
# The time between two looks at the metrics of a version that has a share.
LOOK_SECONDS = 5
# The longest average time of an answer.
SECONDS_PER_REQUEST = 1
# Sends ``count`` requests with ``body``, one after the other, to a version that gets too little
# traffic to be judged. It waits after 429, and fails after other answers than 200 and 5xx.
ASK_MORE = """
import http.client, os, sys, time
left = int(sys.argv[1])
while left:
    api = http.client.HTTPConnection("127.0.0.1", 8000, timeout=30)
    headers = {"Content-Type": "application/json", "X-Request-ID": f"rollout-{left}"}
    if key := os.environ.get("API_KEY"):
        headers["X-API-Key"] = key
    api.request("POST", "/predict", sys.argv[2].encode(), headers)
    answer = api.getresponse()
    said = answer.read(1000).decode()
    api.close()
    if answer.status == 429:
        time.sleep(float(answer.headers.get("Retry-After") or 1))
        continue
    if answer.status != 200 and answer.status < 500:
        sys.exit(f"/predict answers {answer.status}: {said}")
    left -= 1
"""


def replace(machine: Machine, new: Release, before: Release | None, canary: Shares) -> None:
    """:raises ProjectError: the new version was removed again; the old one serves as before."""
    require_edge(machine.config.slo)
    machine.start_proxy()
    old = machine.serving(before.digest if before else None)
    if old and machine.running()[old] == new.digest:
        machine.weigh(old, 100)  # an interrupted rollout may have changed its share
        machine.stop(machine.other(old))
        print(f"{new} serves already.")
        return
    if old is None and before and canary:
        print(f"Nothing serves here: first {before} again.")
        old = "blue"
        machine.start(old, before)
        machine.share(old, 100)
    comes = machine.other(old) if old else "blue"
    if old and canary:
        machine.weigh(old, 100)
    with machine.with_key(new.image):
        try:
            machine.start(comes, new)
            check(machine, comes, new)
            for percent in canary if old else ():
                machine.share(comes, percent)
                watch(machine, comes, percent)
            machine.share(comes, 100)
        except BaseException:
            _take_back(machine, comes, old)
            raise
    machine.stop(machine.other(comes))
    print(f"{new} serves at {machine.config.rollout.publish}.")


def _take_back(machine: Machine, comes: str, old: str | None) -> None:
    try:
        if old:
            machine.weigh(old, 100)
            print("The old version has all requests again.")
    finally:
        machine.stop(comes)


def check(machine: Machine, colour: str, release: Release, **where: str) -> None:
    """:raises ProjectError: it serves another model, or gives no prediction."""
    serves = json.loads(machine.ask(colour, "/model", **where))["sha256"]
    if serves != release.model:
        raise ProjectError(f"it serves model {serves[:12]}, not {release.model[:12]}.")
    answer = json.loads(machine.ask(colour, "/predict", machine.example(colour), **where))
    if len(answer["predictions"]) != 1:
        raise ProjectError(f"it gives no prediction for one row: {answer}.")


def watch(machine: Machine, colour: str, percent: int) -> None:
    """Judge a version for ``rollout.canary_seconds``.

    :raises ProjectError: it misses an objective, or cannot be judged.
    """
    config, least = machine.config, machine.config.rollout.canary_requests
    before, seen = slo.counts(machine.metrics(colour), config.slo), slo.Counts()
    until = time.monotonic() + config.rollout.canary_seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_SECONDS))
        machine.require_share(colour, percent)
        seen = look(machine, colour, before, seen)
        if seen.requests >= least:
            judge(seen, config.slo)
    if (missing := least - seen.requests) > 0:
        print(f"Only {seen}: {missing:.0f} more of our own.")
        longest = START_SECONDS + missing * SECONDS_PER_REQUEST
        body = json.dumps(machine.example(colour))
        machine.run_in(colour, ASK_MORE, f"{missing:.0f}", body, seconds=longest)
        time.sleep(2)  # the workers' metrics are collected once a second
        seen = look(machine, colour, before, seen)
    if seen.requests < least:
        raise ProjectError(f"it has counted {seen}, and was asked {least} times.")
    judge(seen, config.slo)
    print(f"With {percent} % of the requests: {seen}.")


def look(machine: Machine, colour: str, before: slo.Counts, last: slo.Counts) -> slo.Counts:
    """What a version has counted since ``before``.

    :raises ProjectError: it is less than the last time, so the version has restarted.
    """
    seen = slo.counts(machine.metrics(colour), machine.config.slo) - before
    if seen.requests < last.requests:
        raise ProjectError(f"it ended and started again, after {last}.")
    return seen


def judge(seen: slo.Counts, objectives) -> None:
    if reasons := slo.broken(seen, objectives):
        raise ProjectError(f"it misses its objectives: {'; '.join(reasons)} ({seen}).")
