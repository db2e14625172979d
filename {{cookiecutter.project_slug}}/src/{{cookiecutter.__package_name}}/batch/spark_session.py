"""A Spark session for one run: started within a time limit, quiet, and always stopped."""

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

# batch.spark overrides these.
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
    if not MASTER.fullmatch(config.master):  # Java would exit, and only its log would say why
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
    """A session whose driver is this process together with a Java process."""
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
    # One Java process serves all sessions of this process, and ends with this process.
    gateway = SparkContext._gateway or _java(conf)
    context = SparkContext(conf=conf, gateway=gateway)
    context.setLogLevel("ERROR")
    return SparkSession(context)


def _connect(config: Batch):
    """A session on a Spark Connect server, which is the driver."""
    from pyspark.sql import SparkSession

    # Without options it does not contact the server yet, so that ``_stop`` can end the retries.
    return SparkSession.builder.remote(config.master).getOrCreate()


def _prepare(spark, config: Batch, folder: Path) -> None:
    """Send our code and run a first job, which shows whether there is an executor."""
    for name, value in config.spark.items():
        # The others were set before the session started, or belong to the Connect server.
        if spark.conf.isModifiable(name):
            spark.conf.set(name, value)
    spark.addArtifacts(str(_package(folder)), pyfile=True)
    spark.range(1).count()


def _java(conf):
    """Start Java; its output goes to log/spark.log, if that folder is writable."""
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
    """Call ``action`` within ``batch.master_seconds``; errors are raised as a ProjectError."""
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
    """Call ``action`` in a daemon thread, which is abandoned after Ctrl-C or a timeout.

    :raises TimeoutError: it takes longer than ``seconds``.
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
    """The root cause in Spark's report: the last line that names an error of Python or Java."""
    text = str(getattr(error, "java_exception", None) or error)
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception"))]
    return (found[-1] if found else brief(error)).rstrip(".")


def _stop(spark, connect: bool) -> None:
    """Stop the session and its jobs; gives up after STOPPED_WITHIN and ignores errors."""

    def stop() -> None:
        if connect:
            # Otherwise the client retries for ten minutes if the server is gone.
            spark.client.set_retry_policies([])
            spark.interruptAll()
        spark.stop()

    with suppress(Exception):
        apart(stop, STOPPED_WITHIN)
