"""The exact tree of a rendered project, and the table that decides about it."""

from pathlib import Path

import post_gen_project
import pre_gen_project
import pytest
from conftest import FLAVORS, label

TREE = """
.dockerignore
.env.example
.github/CODEOWNERS
.github/dependabot.yml
.github/pull_request_template.md
.github/workflows/change.yml
.github/workflows/release.yml
.github/workflows/retrain.yml
.github/workflows/rollback.yml
.github/workflows/upkeep.yml
.gitignore
.pre-commit-config.yaml
.python-version
Dockerfile
Dockerfile.model
LICENSE
Makefile
README.md
analysis/1_data_understanding.ipynb
analysis/2_modelling.ipynb
analysis/3_evaluation.ipynb
ci/annotate.py
ci/candidate.py
ci/champion.py
ci/change.py
ci/chosen.py
ci/cliff.toml
ci/compatibility.py
ci/container.py
ci/deploy.py
ci/forge.py
ci/gate.py
ci/http_json.py
ci/inventory.py
ci/origin.py
ci/program.py
ci/protect.py
ci/publish.py
ci/release.py
ci/released.py
ci/renew.py
ci/retrain.py
ci/roll_back.py
ci/sbom.py
config/nonprod.toml
config/prod.toml
data/predictions/.gitkeep
data/processed/.gitkeep
data/raw/example.csv
docs/bring-your-own-data.md
docs/ci.md
docs/commands.md
docs/contract.md
docs/databases.md
docs/decisions.md
docs/environments.md
docs/governance.md
docs/models.md
log/.gitkeep
pyproject.toml
requirements-ci.txt
requirements-dev.txt
requirements-train.txt
requirements.txt
src/{package}/__init__.py
src/{package}/__main__.py
src/{package}/arrow.py
src/{package}/cli.py
src/{package}/columns.py
src/{package}/contract.py
src/{package}/data.py
src/{package}/databases.py
src/{package}/effective.py
src/{package}/environment.py
src/{package}/errors.py
src/{package}/export.py
src/{package}/json_files.py
src/{package}/locks.py
src/{package}/masking.py
src/{package}/migrate.py
src/{package}/migrations/models/0001_models.py
src/{package}/mlflow_artifacts.py
src/{package}/mlflow_model.py
src/{package}/mlflow_registry.py
src/{package}/model.py
src/{package}/object_store.py
src/{package}/packaged.py
src/{package}/plots.py
src/{package}/predict.py
src/{package}/production.py
src/{package}/registry.py
src/{package}/schema.py
src/{package}/settings.py
src/{package}/sql_store.py
src/{package}/stores.py
src/{package}/tables.py
src/{package}/train.py
src/{package}/versions.py
tests/conftest.py
tests/integration/test_load_model.py
tests/integration/test_make_predictions.py
tests/integration/test_pipeline.py
tests/known_answers.csv
tests/unit/test_contract.py
tests/unit/test_data.py
tests/unit/test_model.py
tests/unit/test_settings.py
"""
BATCH = """
ci/compare.py
ci/jobs.py
ci/smoke_batch.py
ci/verify_batch.py
data/rejected/.gitkeep
docs/batch.md
requirements-spark.txt
src/{package}/batch.py
src/{package}/incremental.py
src/{package}/ledger.py
src/{package}/local_engine.py
src/{package}/migrations/claims/0001_claims.py
src/{package}/migrations/runs/0001_runs.py
src/{package}/migrations/runs/0002_published_at.py
src/{package}/outputs.py
src/{package}/parts.py
src/{package}/results.py
src/{package}/scoring.py
src/{package}/spark_engine.py
src/{package}/spark_model.py
src/{package}/spark_session.py
tests/integration/test_batch.py
"""
API = """
ci/machine.py
ci/proxy/Dockerfile
ci/proxy/haproxy.cfg
ci/rollout.py
ci/slo.py
ci/smoke_api.py
ci/verify_api.py
docs/api.md
docs/openapi.json
src/{package}/api.py
src/{package}/auth.py
src/{package}/batching.py
src/{package}/client.py
src/{package}/companion.py
src/{package}/delivery.py
src/{package}/follow.py
src/{package}/gate.py
src/{package}/inference_protocol.py
src/{package}/json_logs.py
src/{package}/kept.py
src/{package}/metrics.py
src/{package}/migrations/kept/0001_predictions.py
src/{package}/migrations/kept/0002_by_model_version.py
src/{package}/mlflow_protocol.py
src/{package}/openapi.py
src/{package}/problems.py
src/{package}/protocol.py
src/{package}/remote.py
src/{package}/routes.py
src/{package}/serve.py
src/{package}/serving.py
src/{package}/spool.py
src/{package}/tokens.py
src/{package}/values.py
src/{package}/wire.py
tests/integration/test_api.py
tests/load/locustfile.py
"""
ONLY = {"batch": BATCH, "api": API, "both": BATCH + API}


@pytest.mark.parametrize("answers", FLAVORS, ids=label)
def test_tree(bake, answers):
    project = bake(**answers)
    expected = TREE + ONLY[answers["deployment_flavor"]]
    assert project.files() == sorted(expected.format(package=project.package).split())


@pytest.mark.parametrize("answers", FLAVORS, ids=label)
def test_no_package_can_be_named_as_a_module_of_tests_or_ci(bake, answers):
    project = bake(**answers).path
    modules = {path.stem for folder in ("ci", "tests") for path in (project / folder).glob("*.py")}
    assert {"conftest", "gate"} <= modules
    assert [name for name in modules if not pre_gen_project.taken(name)] == []


ANSWERS = {"__package_name": "iris", "problem": "regression", "flavor": "batch"}
VARIANTS = {
    ("problem", ("classification", "regression")): (
        "docs/openapi.json",
        "src/{package}/model.py",
        "LICENSE",
    )
}
ONLY_WITH = {
    ("flavor", ("batch", "both")): ("src/{package}/batch.py",),
    ("flavor", ("api", "both")): ("docs/openapi.json", "src/{package}/api.py", "deploy"),
}


@pytest.fixture
def rendered(tmp_path):
    """A project as cookiecutter leaves it to the post hook; every file holds its own name."""
    for name in (
        "LICENSE_classification",
        "LICENSE_regression",
        "README.md",
        "deploy/compose.yaml",
        "docs/openapi_classification.json",
        "docs/openapi_regression.json",
        "src/iris/api.py",
        "src/iris/batch.py",
        "src/iris/model_classification.py",
        "src/iris/model_regression.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, "utf-8")
    return tmp_path


def arrange(folder, **answers):
    planned = list(post_gen_project.steps(ANSWERS | answers, VARIANTS, ONLY_WITH))
    return post_gen_project.arrange(folder, planned)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


ARRANGED = {
    "LICENSE": "LICENSE_regression",
    "README.md": "README.md",
    "src/iris/batch.py": "src/iris/batch.py",
    "src/iris/model.py": "src/iris/model_regression.py",
}


def test_the_answers_pick_the_files(rendered):
    assert arrange(rendered) == []
    assert contents(rendered) == ARRANGED
    assert not (rendered / "deploy").exists()


def test_another_answer_picks_others(rendered):
    assert arrange(rendered, problem="classification", flavor="both") == []
    assert contents(rendered) == {
        "LICENSE": "LICENSE_classification",
        "README.md": "README.md",
        "deploy/compose.yaml": "deploy/compose.yaml",
        "docs/openapi.json": "docs/openapi_classification.json",
        "src/iris/api.py": "src/iris/api.py",
        "src/iris/batch.py": "src/iris/batch.py",
        "src/iris/model.py": "src/iris/model_classification.py",
    }


def test_a_second_run_changes_nothing(rendered):
    arrange(rendered)
    assert arrange(rendered) == []
    assert contents(rendered) == ARRANGED


@pytest.mark.parametrize(
    "name",
    [
        "src/iris/model_regression.py",
        "LICENSE_classification",
        "docs/openapi_regression.json",
        "src/iris/batch.py",
        "deploy",
    ],
)
def test_a_path_that_is_not_there_is_an_error(rendered, name):
    (rendered / name).rename(rendered / "moved")
    before = contents(rendered)
    assert arrange(rendered) == [Path(name)]
    assert contents(rendered) == before


def test_a_finished_project_that_lacks_a_path_is_an_error(rendered):
    arrange(rendered)
    (rendered / "LICENSE").unlink()
    assert Path("LICENSE_regression") in arrange(rendered)
