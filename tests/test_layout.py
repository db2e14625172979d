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
deploy/monitoring/alertmanager.yml
deploy/monitoring/dashboard.json
deploy/monitoring/prometheus.yml
deploy/monitoring/rules.yml
deploy/monitoring/sla.md
docs/bring-your-own-data.md
docs/ci.md
docs/commands.md
docs/contract.md
docs/databases.md
docs/decisions.md
docs/environments.md
docs/glossary.md
docs/governance.md
docs/models.md
docs/monitoring.md
docs/pages.py
docs/pipelines.md
docs/runbook.md
log/.gitkeep
pyproject.toml
requirements-ci.txt
requirements-dev.txt
requirements-train.txt
requirements.txt
src/{package}/__init__.py
src/{package}/__main__.py
src/{package}/cli.py
src/{package}/contract.py
src/{package}/data.py
src/{package}/errors.py
src/{package}/model.py
src/{package}/models/__init__.py
src/{package}/models/artifact.py
src/{package}/models/cloud_store.py
src/{package}/models/decisions.py
src/{package}/models/export.py
src/{package}/models/mlflow_artifacts.py
src/{package}/models/mlflow_client.py
src/{package}/models/mlflow_model.py
src/{package}/models/predict.py
src/{package}/models/reference.py
src/{package}/models/register.py
src/{package}/models/registry.py
src/{package}/models/sql_store.py
src/{package}/models/stores.py
src/{package}/models/versions.py
src/{package}/monitoring/__init__.py
src/{package}/monitoring/checks.py
src/{package}/monitoring/drift.py
src/{package}/monitoring/labels.py
src/{package}/monitoring/look.py
src/{package}/monitoring/monitor.py
src/{package}/monitoring/performance.py
src/{package}/monitoring/predictions.py
src/{package}/monitoring/records.py
src/{package}/monitoring/report/__init__.py
src/{package}/monitoring/report/changes.py
src/{package}/monitoring/report/charts.py
src/{package}/monitoring/report/page.html
src/{package}/monitoring/slo/__init__.py
src/{package}/monitoring/slo/alerts.yml.j2
src/{package}/monitoring/slo/objectives.py
src/{package}/monitoring/slo/rules.yml.j2
src/{package}/monitoring/slo/sla.md.j2
src/{package}/monitoring/slo/write.py
src/{package}/monitoring/report/page.py
src/{package}/monitoring/retrain.py
src/{package}/pipelines/__init__.py
src/{package}/pipelines/cron.py
src/{package}/pipelines/definition.py
src/{package}/pipelines/gauges.py
src/{package}/pipelines/processes.py
src/{package}/pipelines/records.py
src/{package}/pipelines/run.py
src/{package}/production.py
src/{package}/schema/__init__.py
src/{package}/schema/arrow.py
src/{package}/schema/columns.py
src/{package}/schema/compatibility.py
src/{package}/schema/contract.py
src/{package}/settings.py
src/{package}/status.py
src/{package}/tables/__init__.py
src/{package}/tables/databases.py
src/{package}/tables/files.py
src/{package}/tables/json_files.py
src/{package}/tables/locks.py
src/{package}/tables/migrate.py
src/{package}/tables/migrations/env.py
src/{package}/tables/migrations/versions/0001_tables.py
src/{package}/tables/migrations/versions/0002_segments.py
src/{package}/tables/migrations/versions/0003_pipelines.py
src/{package}/tables/migrations/versions/0004_monitoring.py
src/{package}/tables/monitored.py
src/{package}/tables/reader.py
src/{package}/tables/storage.py
src/{package}/training/__init__.py
src/{package}/training/draft.py
src/{package}/training/plots.py
src/{package}/training/split.py
src/{package}/training/train.py
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
src/{package}/batch/__init__.py
src/{package}/batch/formats.py
src/{package}/batch/incremental.py
src/{package}/batch/job.py
src/{package}/batch/ledger.py
src/{package}/batch/local_engine.py
src/{package}/batch/outputs.py
src/{package}/batch/rejected.py
src/{package}/batch/results.py
src/{package}/batch/run.py
src/{package}/monitoring/batch_runs.py
src/{package}/monitoring/slo/of_batch.py
src/{package}/batch/sections.py
src/{package}/batch/spark_engine.py
src/{package}/batch/spark_session.py
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
src/{package}/api/__init__.py
src/{package}/api/app.py
src/{package}/api/auth.py
src/{package}/api/describe.py
src/{package}/api/follow.py
src/{package}/api/front.py
src/{package}/api/inference_protocol.py
src/{package}/api/kept.py
src/{package}/api/keys.py
src/{package}/api/logs.py
src/{package}/api/metrics.py
src/{package}/api/mlflow_protocol.py
src/{package}/api/openapi.py
src/{package}/api/problems.py
src/{package}/api/processes.py
src/{package}/api/routes.py
src/{package}/api/serve.py
src/{package}/api/server.py
src/{package}/api/serving.py
src/{package}/api/spool.py
src/{package}/api/status.html
src/{package}/api/status_page.py
src/{package}/monitoring/slo/alerts_api.yml.j2
src/{package}/monitoring/slo/of_api.py
src/{package}/monitoring/api_predictions.py
src/{package}/api/tokens.py
src/{package}/api/values.py
src/{package}/api/wire.py
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
