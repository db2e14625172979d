"""A new version of the API takes the place of the old one, by and by, and only if it keeps its SLO.

It starts beside the old one and proves itself before it gets a request. Then it gets the shares of
``rollout.canary``, each for ``rollout.canary_seconds``; if its own metrics miss an objective, the
old version has all requests again, and the new one is gone.
"""

import json
import time

import slo
from machine import START_SECONDS, Machine
from release import Release

from {{ cookiecutter.__package_name }}.errors import ProjectError

# In percent of the requests.
Shares = tuple[int, ...]
# How often it is judged while it has a share.
LOOK_SECONDS = 5
# The longest that one answer may take, on average.
SECONDS_PER_REQUEST = 1
# One after the other, from inside, for a version that has few clients: count, body. An answer that
# is neither a prediction nor a failure tells nothing of either; who is too fast waits.
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
    """:raises ProjectError: the new version was taken back; the old one serves as it did."""
    slo.require_edge(machine.config.slo)
    machine.start_proxy()
    old = machine.serving(before.digest if before else None)
    if old and machine.running()[old] == new.digest:
        machine.weigh(old, 100)  # a rollout that died may have left it a share, or none
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
    """Judge a version for as long as the settings say.

    :raises ProjectError: it misses an objective, or there is no telling.
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
        time.sleep(2)  # metrics are brought together once a second
        seen = look(machine, colour, before, seen)
    if seen.requests < least:
        raise ProjectError(f"it has counted {seen}, and was asked {least} times.")
    judge(seen, config.slo)
    print(f"With {percent} % of the requests: {seen}.")


def look(machine: Machine, colour: str, before: slo.Counts, last: slo.Counts) -> slo.Counts:
    """What a version has counted since ``before``.

    :raises ProjectError: less than the last time, so it has started again.
    """
    seen = slo.counts(machine.metrics(colour), machine.config.slo) - before
    if seen.requests < last.requests:
        raise ProjectError(f"it ended and started again, after {last}.")
    return seen


def judge(seen: slo.Counts, objectives) -> None:
    if reasons := slo.broken(seen, objectives):
        raise ProjectError(f"it misses its objectives: {'; '.join(reasons)} ({seen}).")
