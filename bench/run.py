"""Render a project and measure it beside its peers: ``run.py [OPTIONS] [SECTION …]``.

Every command is a whole process. The commands of a section take turns, ROUNDS times, and the
median counts, so that other work of the machine affects all of them alike. With BENCH_TINY=1
everything runs once, with a thousand rows for each million, as a test that it runs.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parent
TINY = bool(os.environ.get("BENCH_TINY"))
BUILD = TEMPLATE / "build" / ("bench-tiny" if TINY else "bench")
BIN = Path(sys.executable).parent
PROJECT = BUILD / "iris-flower-prediction"
PACKAGE = "iris_flower_prediction"
STORE = f"sqlite:///{BUILD / 'mlflow.db'}"
MILLION = 1_000 if TINY else 1_000_000
SIZES = (1,) if TINY else (1, 10, 30)
ROUNDS, SHORT_ROUNDS = (1, 1) if TINY else (3, 5)
SPARK = ["pyspark>=4.3,<4.4", "mlflow>=3.17,<3.18", "pandas>=2.3,<3", "scikit-learn", "skops"]

# The environments: the image's requirements, development's, those of the Spark engine, and a plain
# Spark.
SERVING, DEVELOPMENT, ENGINES, SPARKS = (
    BUILD / f"venv-{name}" for name in ("serving", "dev", "engines", "spark")
)
Command = list[str | Path]


def environment() -> dict[str, str]:
    """Compiled modules are kept, as on a user's machine."""
    skipped = ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "PYTHONPATH")
    return {key: value for key, value in os.environ.items() if key not in skipped}


def call(*command: str | Path, cwd: Path = TEMPLATE) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment(), text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return done.stdout


def measure(command: Command, cwd: Path = BUILD) -> dict[str, float]:
    """Wall and CPU seconds and peak memory (MB) of a process, and the figures that it prints."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment(), text=True, stdout=subprocess.PIPE, stderr=errors
        )
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            errors.seek(0)
            sys.exit(f"failed: {' '.join(map(str, command))}\n{errors.read()}")
    figures = {
        "wall": time.perf_counter() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss / 1024,
    }
    said = output.rstrip().rpartition("\n")[2]
    return figures | json.loads(said) if said.startswith("{") else figures


def in_turns(commands: dict[str, Command], clean: Collection[Path], rounds: int = ROUNDS) -> dict:
    """Medians of each command's figures; ``clean`` is removed before each process."""
    found: dict[str, list[dict]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            remove(clean)
            found[name].append(measure(command))
            print(f"  {number + 1}/{rounds} {name}: {found[name][-1]}", file=sys.stderr)
    return {
        name: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        for name, runs in found.items()
    }


def prepare() -> None:
    """Render the project and make environments and models; existing inputs are kept."""
    shutil.rmtree(PROJECT, ignore_errors=True)
    options = ["--no-input", "--default-config", "--output-dir", BUILD]
    call(BIN / "cookiecutter", TEMPLATE, *options, "deployment_flavor=both")
    for folder, name in (
        (SERVING, "requirements"),
        (DEVELOPMENT, "requirements-dev"),
        (ENGINES, "requirements-spark"),
    ):
        install(folder, "--require-hashes", "--requirement", PROJECT / f"{name}.txt")
        install(folder, "--no-deps", "--editable", PROJECT)
    install(SPARKS, *SPARK)
    remove(BUILD / name for name in ("logistic", "forest", "mlflow", "mlflow.db"))
    sizes = [f"{size}.parquet={size * MILLION}" for size in SIZES] + ["ten.parquet=10"]
    missing = [size for size in sizes if not (BUILD / size.partition("=")[0]).exists()]
    call(DEVELOPMENT / "bin/python", HERE / "prepare.py", BUILD, STORE, *missing)


def install(folder: Path, *what: str | Path) -> None:
    if not folder.exists():
        call(BIN / "uv", "venv", "--quiet", "--python", sys.executable, folder)
    compiled = () if TINY else ("--compile-bytecode",)
    call(BIN / "uv", "pip", "install", "--quiet", *compiled, "--python", folder, *what)


def script(python: Path, name: str, *arguments: str | Path) -> Command:
    return [python / "bin/python", HERE / f"{name}.py", *arguments]


def scoring(model: str, millions: int) -> dict:
    """Score rows with everything but Spark, and compare the predictions."""
    source, folder = BUILD / f"{millions}.parquet", BUILD / model
    out = {name: BUILD / f"out-{name}" for name in ("ours", "pandas", "mlflow")}
    one_file, floor, kept = BUILD / "out-ours.parquet", BUILD / "out-floor", BUILD / "out-kept"
    commands = {
        "floor": script(SERVING, "floor", source, floor, folder, kept),
        "ours": script(SERVING, "ours", source, out["ours"], folder),
        "ours, to one file": script(SERVING, "ours", source, one_file, folder),
        "pandas": script(DEVELOPMENT, "with_pandas", source, out["pandas"], folder),
        "mlflow": script(DEVELOPMENT, "with_mlflow", source, out["mlflow"], folder, STORE),
    }
    other = agreement(commands, source, out)
    remove([kept])
    out["ours"].rename(kept)
    measure(commands["floor"])
    written = {"ours": size(kept), "floor": size(floor)}
    results = in_turns(commands, [*out.values(), floor, one_file])
    return results | {"predicted otherwise than ours": other, "bytes written": written}


def spark() -> dict:
    """Score 1 million rows with Spark and with ours."""
    source, folder = BUILD / "1.parquet", BUILD / "logistic"
    out = {name: BUILD / f"out-{name}" for name in ("ours", "spark")}
    commands = {
        "ours": script(SERVING, "ours", source, out["ours"], folder),
        "spark": script(SPARKS, "with_spark", source, out["spark"], folder, STORE),
    }
    found = agreement(commands, source, out)
    return in_turns(commands, out.values()) | {"predicted otherwise than ours": found}


def agreement(commands: dict[str, Command], source: Path, out: dict[str, Path]) -> dict:
    """The number of rows that each peer predicts differently from ours; the runs also warm up."""
    found = {}
    remove(out.values())
    measure(commands["ours"])
    for name in [name for name in out if name != "ours"]:
        measure(commands[name])
        compare = script(SERVING, "agreement", source, out["ours"], out[name])
        found[name] = measure(compare)["disagree"]
    return found


def remove(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def size(path: Path) -> int:
    files = path.rglob("*.parquet") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def engines() -> dict:
    """Both engines of ours, by the number of rows, once each; Spark's JVM is not measured."""
    out, model = BUILD / "out-ours", BUILD / "logistic"
    commands = {
        f"{engine}, {rows} million": script(
            ENGINES, "ours", BUILD / f"{rows}.parquet", out, model, "--engine", engine
        )
        for rows in SIZES
        for engine in ("local", "spark")
    }
    return in_turns(commands, [out], 1)


def memory() -> dict:
    """Peak memory of ours by the number of rows."""
    out, model = BUILD / "out-ours", BUILD / "logistic"
    commands = {
        f"{rows} million": script(SERVING, "ours", BUILD / f"{rows}.parquet", out, model)
        for rows in SIZES
    }
    return in_turns(commands, [out])


def monitor() -> dict:
    """Monitor ten million predictions of the batch job, and as many of the API."""
    python, rows = DEVELOPMENT / "bin/python", 10 * MILLION
    ours = [python, "-m", PACKAGE]
    ten = BUILD / f"{min(10, SIZES[-1])}.parquet"
    call(*ours, "train", cwd=PROJECT)
    call(*ours, "score", "--input", ten, "--run-id", "big", cwd=PROJECT)
    call(python, HERE / "monitored.py", str(rows), str(rows // 40), cwd=PROJECT)
    for source in ("batch", "api"):
        call(*ours, "labels", "import", f"labels-{source}.parquet", cwd=PROJECT)
    every, batch = "monitor, both", "monitor, the batch job's run"
    return {
        every: measure([*ours, "monitor"], PROJECT),
        batch: measure([*ours, "monitor", "--window", "big"], PROJECT),
    }


def command_line() -> dict:
    """The cost of any call: help, and ten rows with a model folder."""
    out = BUILD / "out-ours"
    commands: dict[str, Command] = {}
    for name, python in (("image's requirements", SERVING), ("development", DEVELOPMENT)):
        module = [python / "bin/python", "-m", PACKAGE]
        ten = ["--input", BUILD / "ten.parquet", "--output", out, "--model", BUILD / "logistic"]
        commands[f"--help, {name}"] = [*module, "--help"]
        commands[f"score ten rows, {name}"] = [*module, "score", *ten]
    return in_turns(commands, [out], SHORT_ROUNDS)


def rendering(ccds: str | None) -> dict:
    """The whole command: this template, an empty one, and cookiecutter-data-science."""
    empty, out = BUILD / "empty", BUILD / "out-rendered"
    (empty / "{{cookiecutter.name}}").mkdir(parents=True, exist_ok=True)
    (empty / "cookiecutter.json").write_text('{"name": "empty"}\n')
    (empty / "{{cookiecutter.name}}" / "README.md").write_text("# empty\n")
    options = ["--no-input", "--default-config", "--output-dir", out]
    commands: dict[str, Command] = {
        "this template": [BIN / "cookiecutter", TEMPLATE, *options],
        "an empty template": [BIN / "cookiecutter", empty, *options],
    }
    if ccds:
        install(BUILD / "venv-ccds", "cookiecutter-data-science==2.3.0")
        ours = BUILD / "venv-ccds" / "bin/ccds"
        commands["cookiecutter-data-science"] = [ours, ccds, *options]
    return in_turns(commands, [out], SHORT_ROUNDS)


def demo() -> dict:
    """``make demo`` in a copy of the template: the first time, and again."""
    copy = BUILD / "demo"
    shutil.rmtree(copy, ignore_errors=True)
    left_out = shutil.ignore_patterns(".venv", "build", ".git", "__pycache__", ".*_cache")
    shutil.copytree(TEMPLATE, copy, ignore=left_out)
    make = ["make", "demo", f"PYTHON={sys.executable}"]
    return {name: measure(make, copy) for name in ("first, package cache warm", "again")}


def main() -> None:
    sections = {
        "logistic": lambda: scoring("logistic", arguments.millions),
        "forest": lambda: scoring("forest", arguments.millions),
        "spark": spark,
        "engines": engines,
        "memory": memory,
        "monitor": monitor,
        "cli": command_line,
        "rendering": lambda: rendering(arguments.ccds),
        "demo": demo,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ccds", help="a clone of cookiecutter-data-science to render as well")
    parser.add_argument(
        "--millions",
        type=int,
        choices=SIZES,
        default=min(10, SIZES[-1]),
        help="of rows for both models (10)",
    )
    parser.add_argument("section", nargs="*", help=f"of {', '.join(sections)}; all by default")
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    prepare()
    results = BUILD / "results.json"
    found = json.loads(results.read_text()) if results.exists() else {}
    for name in arguments.section or sections:
        print(name, file=sys.stderr)
        found[name] = sections[name]()
        results.write_text(json.dumps(found, indent=2) + "\n")
        print(table(name, found[name]))


def table(name: str, rows: dict) -> str:
    """A Markdown table; the first two columns leave out imports and loading."""
    columns = ("work", "work_cpu", "wall", "cpu", "memory")
    lines = [f"\n### {name}\n", "| | " + " | ".join(columns) + " |", "|---|" + "---:|" * 5]
    for label, figures in rows.items():
        if "wall" not in figures:
            lines.append(f"\n{label}: {figures}")
            continue
        shown = [f"{figures[each]:.2f}" if each in figures else "" for each in columns[:4]]
        lines.append(f"| {label} | " + " | ".join(shown) + f" | {figures['memory']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
