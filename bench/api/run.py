"""Measure the rendered project's API beside other servers: ``run.py [OPTIONS]``.

One server runs at a time. All take turns, ``--rounds`` times, and medians count, so that whatever
else the machine does falls on all of them alike.
"""

import argparse
import itertools
import json
import statistics
import sys
import time

import environments
from environments import BUILD, Failed
from load import Client
from peers import PEERS, Peer, Start
from server import family, free_ports, last_words, memory, running

SETTLE = 2.0
Figures = dict[str, float]


def measure(peer: Peer, start: Start, arguments: argparse.Namespace) -> Figures:
    """Start a server, check it, put it under load with each number of rows, and end it."""
    client = Client(peer, start.ports[0], start.model)
    began = time.perf_counter()
    with running(peer.command(start), peer.folder, peer.settings(start)) as process:
        client.wait(lambda: process.poll() is None)
        figures = {"cold start s": time.perf_counter() - began}
        time.sleep(SETTLE)
        figures["at rest MB"] = memory(process.pid)
        figures["processes"] = len(family(process.pid))
        used = []
        for rows in arguments.rows:
            client.check(rows)
            warm_up = max(1.0, arguments.seconds / 5)
            client.press(rows, warm_up, lambda: used.append(memory(process.pid)), warm_up / 5)
            under_load = client.press(rows, arguments.seconds, lambda: None, 1.0)
            figures |= {f"{key}, {rows}": under_load[key] for key in ("rate", "p50", "p99")}
            client.check(rows, 1)
    return figures | {"under load MB": max(used, default=0.0)}


def in_turns(names: list[str], model: str, workers: int, arguments: argparse.Namespace) -> dict:
    """Each server's figures of all rounds; one that fails says why and is left out from then on."""
    found: dict[str, dict] = {name: {"rounds": []} for name in names}
    for number, name in itertools.product(range(arguments.rounds), names):
        if "failed" in found[name]:
            continue
        start = Start(model, free_ports(3), workers, arguments.access_log)
        try:
            figures = measure(PEERS[name], start, arguments)
        except Failed as failure:
            found[name]["failed"] = f"{failure} ({last_words()})"
            print(f"INVALID {model} {workers} {name}: {found[name]}", file=sys.stderr)
            continue
        found[name]["rounds"].append(figures)
        print(
            f"  {number + 1}/{arguments.rounds} {model} {workers} {name}: {figures}",
            file=sys.stderr,
        )
    return found


def medians(entry: dict) -> Figures | None:
    """None where a round failed: then no round counts."""
    if "failed" in entry:
        return None
    rounds = entry["rounds"]
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


def speed(found: dict, rows: int) -> list[str]:
    """Markdown; the ratios are those of requests per second."""
    lines = ["| | requests/s | of empty | ours to it | p50 ms | p99 ms |", "|---|" + "---:|" * 5]
    known = {name: medians(entry) for name, entry in found.items()}
    for name, entry in found.items():
        figures = known[name]
        if figures is None:
            lines.append(f"| {PEERS[name].name} | failed: {entry['failed']} |")
            continue
        rate, p50, p99 = (figures[f"{key}, {rows}"] for key in ("rate", "p50", "p99"))
        of_empty, ours = (share(known, other, f"rate, {rows}", rate) for other in ("empty", "ours"))
        of_empty = f"{1 / of_empty:.2f}" if of_empty else ""
        ours = f"{ours:.2f}" if ours else ""
        lines.append(
            f"| {PEERS[name].name} | {rate:.0f} | {of_empty} | {ours} | {p50:.2f} | {p99:.2f} |"
        )
    return lines


def share(known: dict, name: str, key: str, of: float) -> float | None:
    figures = known.get(name)
    return figures[key] / of if figures else None


def cost(found: dict) -> list[str]:
    """Markdown: what a server takes before and while it answers."""
    columns = ("cold start s", "at rest MB", "under load MB", "processes", "environment MB")
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, entry in found.items():
        if figures := medians(entry):
            figures["environment MB"] = environments.size(PEERS[name].environment)
            digits = [2, 0, 0, 0, 0]
            shown = [
                f"{figures[key]:.{places}f}" for key, places in zip(columns, digits, strict=True)
            ]
            lines.append(f"| {PEERS[name].name} | " + " | ".join(shown) + " |")
    return lines


def prepare(names: list[str]) -> None:
    """The project, its models, and an environment for each server."""
    environments.prepare()
    fitted_with = environments.same_versions()
    for name in names:
        if PEERS[name].packages:
            environments.install(PEERS[name].environment, *fitted_with, *PEERS[name].packages)


def listed(kind: type = str, choices: tuple = ()) -> type:
    def parse(text: str) -> list:
        values = [kind(each) for each in text.split(",")]
        if wrong := [each for each in values if choices and each not in choices]:
            raise argparse.ArgumentTypeError(
                f"{wrong[0]} is none of {', '.join(map(str, choices))}"
            )
        return values

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    everyone = tuple(PEERS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load (10)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (3)")
    parser.add_argument(
        "--only",
        type=listed(str, everyone),
        default=everyone,
        metavar="PEER,…",
        help=", ".join(everyone),
    )
    parser.add_argument("--rows", type=listed(int), default=[1, 100], help="of a request (1,100)")
    parser.add_argument(
        "--models",
        type=listed(str, ("logistic", "forest")),
        default=["logistic", "forest"],
        metavar="MODEL,…",
    )
    parser.add_argument("--workers", type=listed(int), default=[1, 2], help="(1,2)")
    parser.add_argument("--access-log", action="store_true", help="every server writes one")
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    prepare(arguments.only)
    results = {}
    for model, workers in itertools.product(arguments.models, arguments.workers):
        title = f"{model}, {workers} worker{'s' if workers > 1 else ''}"
        results[title] = found = in_turns(arguments.only, model, workers, arguments)
        (BUILD / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        for rows in arguments.rows:
            print(
                f"\n### {title}, {rows} row{'s' if rows > 1 else ''}\n",
                *speed(found, rows),
                sep="\n",
            )
        print(f"\n### {title}: cost\n", *cost(found), sep="\n", flush=True)


if __name__ == "__main__":
    main()
