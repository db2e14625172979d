"""Does every section of both benches run, in a tiny size? Figures are not tested."""

import shutil
import sys

import pytest
from conftest import TEMPLATE, run

pytestmark = pytest.mark.slow


def bench(*words):
    """What a bench prints."""
    return run("env", "BENCH_TINY=1", sys.executable, *words, cwd=TEMPLATE, timeout=1800)


def test_every_section_of_the_bench_runs():
    found = bench("bench/run.py")
    sections = (
        "logistic",
        "forest",
        "spark",
        "engines",
        "memory",
        "monitor",
        "cli",
        "rendering",
        "demo",
    )
    for name in sections:
        assert f"\n### {name}\n" in found, found[-5000:]
    for peers in ("{'pandas': 0, 'mlflow': 0}", "{'spark': 0}"):
        assert f"predicted otherwise than ours: {peers}" in found, "a peer answers otherwise"


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is missing: apt-get install wrk")
def test_every_server_of_the_bench_answers():
    short = ("--seconds", "1", "--rounds", "1", "--rows", "1", "--workers", "1")
    found = bench("bench/api/run.py", *short, "--models", "logistic,forest")
    assert "INVALID" not in found
    for title in ("rows: 1", "cost"):
        assert f"workers: 1, {title}" in found
