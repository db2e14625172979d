"""A Spark session for one run: made within a bounded time, quiet, and always ended."""

import importlib.util
import logging
import os
import re
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..errors import ProjectError, brief, hidden
from ..settings import PACKAGE, Batch, root

# batch.spark comes before them.
DEFAULTS = {
    "spark.app.name": PACKAGE,
    "spark.ui.enabled": "false",
    "spark.executorEnv.ORT_DISABLE_TELEMETRY": "1",
}
LOCAL = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
MASTER = re.compile(r"local(\[[\d*, ]+\])?|yarn|(spark|k8s|sc)://.+")
STOPPED_WITHIN = 10  # seconds


@contextmanager
def session(config: Batch) -> Iterator:
    """A session on ``batch.master`` with at least one executor and this package's code.

    :raises ProjectError: no pyspark, no Java, or no session in ``batch.master_seconds``.
    """
    if importlib.util.find_spec("pyspark") is None:
        raise ProjectError("the Spark engine needs pyspark: install requirements-spark.txt.")
    if not MASTER.fullmatch(config.master):  # Java would end with it, and say so in its log alone
        known = "local[*], spark://host:port, yarn, k8s://… or sc://host:port"
        raise ProjectError(f"{hidden(config.master)!r} is no Spark master: use {known}.")
    for noisy in ("py4j", "pyspark", "grpc"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    connect = config.master.startswith("sc://")
    spark = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            spark = _within(config, partial(_connect if connect else _classic, config))
            _within(config, partial(_prepare, spark, config, Path(folder)))
            yield spark
        finally:
            if spark is not None:
                _stop(spark, connect)


def _classic(config: Batch):
    """A session whose driver is this process and a Java process of its own."""
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    local = config.master.startswith("local")
    options = DEFAULTS | (LOCAL if local else {}) | config.spark
    options["spark.master"] = config.master
    if local:
        os.environ["PYSPARK_PYTHON"] = sys.executable
    else:
        python = config.spark.get("spark.pyspark.python", sys.executable)
        os.environ.setdefault("PYSPARK_PYTHON", python)
    conf = SparkConf().setAll(options.items())
    # One Java process serves all the sessions of this process; it ends when this one does.
    gateway = SparkContext._gateway or _java(conf)
    context = SparkContext(conf=conf, gateway=gateway)
    context.setLogLevel("ERROR")
    return SparkSession(context)


def _connect(config: Batch):
    """A session of a Spark Connect server, which is the driver."""
    from pyspark.sql import SparkSession

    # Without options it does not ask the server yet, and so can be told not to try for long.
    return SparkSession.builder.remote(config.master).getOrCreate()


def _prepare(spark, config: Batch, folder: Path) -> None:
    """Give it our code, and a first job: not before is it known whether there is an executor."""
    for name, value in config.spark.items():
        # The others were set before it began, or are the Connect server's own.
        if spark.conf.isModifiable(name):
            spark.conf.set(name, value)
    spark.addArtifacts(str(_package(folder)), pyfile=True)
    spark.range(1).count()


def _java(conf):
    """Start Java; what it says goes to log/spark.log, if there is such a folder."""
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway

    folder = root() / "log"
    file = folder / "spark.log" if os.access(folder, os.W_OK) else Path(os.devnull)
    try:
        with file.open("wb") as log:
            return launch_gateway(conf, {"stdout": log, "stderr": log})
    except (OSError, PySparkRuntimeError):
        raise ProjectError(
            "the Spark engine cannot start Java: install Java 17 or newer, or set JAVA_HOME; "
            "log/spark.log says more."
        ) from None


def _within(config: Batch, action: Callable):
    """What ``action`` returns, in bounded time; what it raises as a sentence."""
    master = hidden(config.master)
    try:
        return apart(action, config.master_seconds)
    except TimeoutError:
        what = f"in {config.master_seconds} seconds (batch.master_seconds)"
        raise ProjectError(f"Spark at {master} gave no session with an executor {what}.") from None
    except ProjectError:
        raise
    except Exception as error:
        raise ProjectError(f"Spark at {master}: {hidden(cause(error))}.") from error


def apart(action: Callable, seconds: float | None = None):
    """What ``action`` returns, in a thread of its own, which Ctrl-C and time leave to itself.

    :raises TimeoutError: it takes longer.
    """
    done: Future = Future()

    def run() -> None:
        try:
            done.set_result(action())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(seconds)


def _package(folder: Path) -> Path:
    """This package as a zip file, so that executors need its requirements but no checkout."""
    target = folder / f"{PACKAGE}.zip"
    here = Path(__file__).parents[1]
    with zipfile.ZipFile(target, "w") as opened:
        for file in sorted(here.rglob("*.py")):
            opened.write(file, file.relative_to(here.parent))
    return target


def cause(error: BaseException) -> str:
    """What went wrong at the bottom of Spark's report: Python's own error, or Java's."""
    text = str(getattr(error, "java_exception", None) or error)
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception"))]
    return (found[-1] if found else brief(error)).rstrip(".")


def _stop(spark, connect: bool) -> None:
    """End the session and what it still does; who does not answer any more is left alone."""

    def stop() -> None:
        if connect:
            # Else the client tries for ten minutes to say farewell to a server that has gone.
            spark.client.set_retry_policies([])
            spark.interruptAll()
        spark.stop()

    with suppress(Exception):
        apart(stop, STOPPED_WITHIN)
