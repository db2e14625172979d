"""Measure the rendered project's API beside other servers: ``run.py [OPTIONS]``.

One server runs at a time. All take turns, ``--rounds`` times, and medians count, so that other work
of the machine affects all of them alike.
"""

import argparse
import itertools
import json
import shutil
import signal
import statistics
import sys
import time

import environments
from environments import BUILD
from load import Client
from peers import PEERS, Peer, Start
from server import family, free_ports, last_words, memory, running

SETTLE = 2.0
COSTS = {"cold start s": 2, "at rest MB": 0, "under load MB": 0, "processes": 0}


def measure(peer: Peer, start: Start, options: argparse.Namespace) -> dict[str, float]:
    """Start a server, check its answers, put it under load, and end it."""
    client = Client(peer, start.ports[0], start.model)
    began = time.perf_counter()
    with running(peer.command(start), peer.folder, peer.settings(start)) as process:
        client.wait(process)
        figures = {"cold start s": time.perf_counter() - began}
        time.sleep(SETTLE)
        figures["at rest MB"] = memory(process.pid)
        figures["processes"] = len(family(process.pid))
        used = []
        for rows in options.rows:
            client.check(rows)
            warm_up = max(1, options.seconds // 5)
            client.press(rows, warm_up, warm_up / 5, lambda: used.append(memory(process.pid)))
            pressed = client.press(rows, options.seconds)
            figures |= {f"{key}, {rows}": value for key, value in pressed.items()}
            client.check(rows, 1)
    return figures | {"under load MB": max(used)}


def in_turns(model: str, workers: int, options: argparse.Namespace) -> dict[str, dict]:
    """The figures of every server's rounds; a server that fails has no further rounds."""
    found = {name: {"rounds": [], "failed": ""} for name in options.only}
    for number, name in itertools.product(range(options.rounds), options.only):
        if found[name]["failed"]:
            continue
        start = Start(model, free_ports(3), workers, options.access_log)
        label = f"{number + 1}/{options.rounds} {model}, {workers}, {name}"
        try:
            found[name]["rounds"].append(measure(PEERS[name], start, options))
            print(f"  {label}: {found[name]['rounds'][-1]}", file=sys.stderr)
        except Exception as error:  # whatever fails, the other servers go on
            found[name]["failed"] = f"{error!r}; the server said: {last_words()}"
            print(f"INVALID {label}: {found[name]['failed']}", file=sys.stderr)
    return found


def medians(found: dict[str, dict]) -> dict[str, dict[str, float]]:
    """The medians of the servers that never failed."""
    good = {name: entry["rounds"] for name, entry in found.items() if not entry["failed"]}
    return {
        name: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        for name, rounds in good.items()
    }


def speed(found: dict[str, dict], rows: int) -> list[list[str]]:
    """The table of requests per second and latencies, with ratios to the empty endpoint."""
    table = [["", "requests/s", "× empty", "ours ×", "p50 ms", "p99 ms", "p99 × empty"]]  # noqa: RUF001
    known = medians(found)
    for name, entry in found.items():
        if entry["failed"]:
            table.append([PEERS[name].name, f"INVALID: {entry['failed']}"])
            continue
        rate, p50, p99 = (known[name][f"{key}, {rows}"] for key in ("rate", "p50", "p99"))
        empty = known.get("empty", {})
        of_empty = ratio(rate, empty.get(f"rate, {rows}"))
        ours = ratio(known.get("ours", {}).get(f"rate, {rows}"), rate)
        late = ratio(p99, empty.get(f"p99, {rows}"))
        table.append(
            [PEERS[name].name, f"{rate:.0f}", of_empty, ours, f"{p50:.2f}", f"{p99:.2f}", late]
        )
    return table


def ratio(value: float | None, of: float | None) -> str:
    return f"{value / of:.2f}" if value and of else ""


def cost(found: dict[str, dict]) -> list[list[str]]:
    table = [["", *COSTS, "environment MB"]]
    for name, figures in medians(found).items():
        shown = [f"{figures[key]:.{digits}f}" for key, digits in COSTS.items()]
        table.append(
            [PEERS[name].name, *shown, f"{environments.size(PEERS[name].environment):.0f}"]
        )
    return table


def show(title: str, table: list[list[str]]) -> None:
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|---|" + "---:|" * (len(table[0]) - 1))
    print(f"\n### {title}\n", *lines, sep="\n", flush=True)


def prepare(names: list[str]) -> None:
    """Make the project, its models, and an environment for each server."""
    environments.prepare()
    fitted_with = environments.same_versions()
    for name in names:
        if PEERS[name].packages:
            environments.install(PEERS[name].environment, *fitted_with, *PEERS[name].packages)


def listed(text: str) -> list:
    return [int(each) if each.isdigit() else each for each in text.split(",")]


def chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of load (10)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (3)")
    parser.add_argument("--only", type=listed, default=list(PEERS), help=",".join(PEERS))
    parser.add_argument("--rows", type=listed, default=[1, 100], help="of a request (1,100)")
    parser.add_argument("--models", type=listed, default=["logistic", "forest"])
    parser.add_argument("--workers", type=listed, default=[1, 2], help="of a server (1,2)")
    parser.add_argument("--access-log", action="store_true", help="of ours and the uvicorn apps")
    options = parser.parse_args()
    if unknown := set(options.only) - PEERS.keys():
        parser.error(f"unknown: {', '.join(unknown)}")
    if not shutil.which("wrk"):
        parser.error("wrk is not installed")
    return options


def main() -> None:
    options = chosen()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    BUILD.mkdir(parents=True, exist_ok=True)
    prepare(options.only)
    results = {}
    for model, workers in itertools.product(options.models, options.workers):
        title = f"{model}, workers: {workers}"
        results[title] = in_turns(model, workers, options)
        (BUILD / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        for rows in options.rows:
            show(f"{title}, rows: {rows}", speed(results[title], rows))
        show(f"{title}, cost", cost(results[title]))
    if any(entry["failed"] for found in results.values() for entry in found.values()):
        sys.exit("some were INVALID")


if __name__ == "__main__":
    main()
