"""A real Spark on this machine: a standalone master with two workers, and a Connect server."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyspark
from conftest import free_port

HOME = Path(pyspark.__file__).parent
STARTED_WITHIN = 120  # seconds
MASTER = "org.apache.spark.deploy.master.Master"
WORKER = "org.apache.spark.deploy.worker.Worker"
SUBMIT = "org.apache.spark.deploy.SparkSubmit"
CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"
EXECUTOR = b"CoarseGrainedExecutorBackend"
# Small executors that reach their driver on this machine, whatever its name resolves to.
OPTIONS = {
    "spark.executor.memory": "512m",
    "spark.executor.cores": "1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


class Spark:
    """Java processes of Spark that end with it; they log to files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, []

    def cluster(self) -> str:
        """The URL of a new master with two workers of one core each."""
        port = free_port()
        url = f"spark://127.0.0.1:{port}"
        self._start("master", MASTER, "--host", "127.0.0.1", "--port", port, "--webui-port", 0)
        self._wait("master", "I have been elected leader")
        for name in ("one", "two"):
            words = ("--host", "127.0.0.1", "--webui-port", 0, "--cores", 1, "--memory", "1g")
            self._start(name, WORKER, *words, "--work-dir", self.folder / name, url)
        for name in ("one", "two"):
            self._wait(name, "Successfully registered with master")
        return url

    def connect(self) -> str:
        """The URL of a new Spark Connect server."""
        port = free_port()
        options = {"spark.connect.grpc.binding.port": port, "spark.master": "local[2]", **OPTIONS}
        options |= {"spark.connect.grpc.binding.address": "127.0.0.1", "spark.ui.enabled": "false"}
        words = [word for name, value in options.items() for word in ("--conf", f"{name}={value}")]
        self._start("connect", SUBMIT, "--class", CONNECT, *words, "spark-internal", memory="1g")
        self._wait("connect", "Spark Connect server started")
        return f"sc://127.0.0.1:{port}"

    def executors(self) -> list[int]:
        """The process ids of the executors that the workers have started."""
        found = []
        for process in self.started:
            for file in Path(f"/proc/{process.pid}/task").glob("*/children"):
                with suppress(OSError):  # a thread that has just ended
                    found += map(int, file.read_text().split())
        return [each for each in found if EXECUTOR in command(each)]

    def stop(self) -> None:
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self, name: str, *words: object, memory: str = "256m") -> None:
        own = {
            "SPARK_HOME": str(HOME),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": memory,
            "PYSPARK_PYTHON": sys.executable,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = [str(HOME / "bin" / "spark-class"), *map(str, words)]
        with (self.folder / f"{name}.log").open("wb") as log:
            options = {"stdout": log, "stderr": log, "env": os.environ | own}
            process = subprocess.Popen(command, cwd=self.folder, **options)
        self.started.append(process)

    def _wait(self, name: str, words: str) -> None:
        log, until = self.folder / f"{name}.log", time.monotonic() + STARTED_WITHIN
        while words not in log.read_text("utf-8", "replace"):
            assert time.monotonic() < until, log.read_text("utf-8", "replace")
            time.sleep(0.1)


def command(process: int) -> bytes:
    """What a process was started with; nothing if it has just ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
