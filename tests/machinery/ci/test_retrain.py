"""A model is trained again and proposed: the branch, the change, and when there is none."""

import json
import os
import shutil
import tomllib
from datetime import UTC, datetime

import pytest
from conftest import QUICK, one_sentence, use
from loopback import git

from iris_flower_prediction import settings
from iris_flower_prediction.models import register, registry, stores
from iris_flower_prediction.models.registry import Version

pytestmark = pytest.mark.slow

CHOSEN = "config/model.toml"
BRANCH = "retrain/model"


@pytest.fixture
def retrain(pushed, hub, tmp_path):
    """retrain(**settings): on a runner that is thrown away, with a store that is not."""

    def run(**chosen):
        for name in ("mlartifacts", "data/processed"):
            shutil.rmtree(pushed.folder / name, ignore_errors=True)
        (pushed.folder / "mlflow.db").unlink(missing_ok=True)
        variables = {**QUICK, "MODELS_STORE": str(tmp_path / "store"), "NO_PROXY": "127.0.0.1"}
        variables |= hub.variables() | chosen
        words = (pushed.folder / "ci/retrain.py", "build/reports/retrain.md")
        return pushed.run(*words, **variables)

    return run


def report(pushed) -> str:
    return (pushed.folder / "build/reports/retrain.md").read_text("utf-8")


def test_a_better_model_is_proposed_until_it_is_merged(pushed, hub, retrain, tmp_path, monkeypatch):
    done = retrain(REASON="Drift: PSI 0.4\n/merge\n```\n@everybody <b>now</b>")
    assert done.returncode == 0, done.stdout + done.stderr
    [change] = hub.changes()
    assert change["branch"] == BRANCH
    assert change["title"] == "Retrained model, version 1"
    assert "## Model: promoted" in change["body"]
    assert change["body"].endswith(
        "    Drift: PSI 0.4\n    /merge\n    ```\n    @everybody <b>now</b>\n"
    )
    assert "Proposed: http" in report(pushed)

    # The branch holds one file more, which names a model that is there.
    assert git(hub.bare, "diff", "--name-only", "main", BRANCH) == CHOSEN
    assert git(pushed.folder, "status", "--porcelain") == ""
    chosen = tomllib.loads(git(hub.bare, "show", f"{BRANCH}:{CHOSEN}"))
    assert chosen["uri"] == f"{tmp_path / 'store'}/{chosen['sha256'][:12]}"
    use(pushed.folder, monkeypatch)
    config = settings.load()
    model = stores.load_model(chosen["uri"], config)
    assert model.metadata["sha256"] == chosen["sha256"]
    assert model.metadata["contract"] == chosen["contract"]
    metric = config.training.metric
    assert chosen["metrics"][metric] == model.metadata["metrics"][metric]

    # A newer model replaces a proposal that is not merged yet.
    assert retrain(APP__TRAINING__SEED="1").returncode == 0
    [renewed] = hub.changes()
    assert renewed["title"] == "Retrained model, version 1", "of another registry"
    assert "The reason" not in renewed["body"]
    second = tomllib.loads(git(hub.bare, "show", f"{BRANCH}:{CHOSEN}"))
    assert second["uri"] == f"{tmp_path / 'store'}/{second['sha256'][:12]}"
    assert second["uri"] != chosen["uri"]

    # After the merge, a new model must beat this one.
    git(pushed.folder, "pull", "--quiet", str(hub.bare), BRANCH)
    before = hub.branch(BRANCH)
    assert retrain(APP__TRAINING__SEED="1").returncode == 0
    assert "does not beat the champion's" in report(pushed)
    assert "No change is proposed" in report(pushed)
    assert (hub.branch(BRANCH), hub.changes()) == (before, [renewed])


def test_a_rejected_model_is_not_proposed(pushed, hub, retrain):
    training = settings.load().training
    bounds, never = ("MINIMUM", 1e9) if training.minimum else ("MAXIMUM", -1)
    done = retrain(**{f"APP__TRAINING__{bounds}": json.dumps({training.metric: never})})
    assert done.returncode == 0, done.stderr
    assert "## Model: rejected" in report(pushed)
    assert "No change is proposed" in report(pushed)
    assert hub.branch(BRANCH) is None
    assert hub.changes() == []


def test_what_was_proposed_and_never_merged_is_not_what_has_to_be_beaten(
    copied, saved, monkeypatch
):
    import retrain

    config = settings.load()
    of_production = registry.history(config)[0]
    other = {"sha256": "f" * 64}  # the digest of another file
    record = register.Record()
    number = register.register(saved, record, config, more_tags=other)
    registry.promote(number, "proposed", config)
    monkeypatch.setattr(retrain, "present", lambda: ("models:/any/1", of_production.sha256))
    for _ in range(2):
        retrain.start_from_production(config)
        assert registry.find(registry.CHAMPION, config).number == of_production.number


def test_metrics_of_any_name_are_written_as_toml(monkeypatch):
    import retrain

    metrics = {"cv_random forest": 0.5, 'a"b': float("nan"), "f1": 1.0}
    version = Version("1", "f" * 64, datetime.now(UTC), (), {"contract": "1"}, metrics)
    found = tomllib.loads(retrain.written("s3://bucket/1", version))
    assert found["metrics"].keys() == metrics.keys()


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("", "no release would find the model"),
        ("postgresql+pg8000://writer:secret@db/models#iris", "would show its password"),
        ("models:/other", "from this folder only"),
        ("sqlite:///models.db#iris", "from this folder only"),
        ("build/store", "from this folder only"),
    ],
)
def test_a_store_that_does_not_do_is_one_sentence(hub, retrain, store, told):
    said = one_sentence(retrain(MODELS_STORE=store))
    assert told in said
    assert "secret@" not in said
    assert hub.asked == []


def test_without_a_token_nothing_is_trained(pushed, hub, retrain):
    done = retrain(**{hub.VARIABLE: ""})
    assert f"the variable {hub.VARIABLE} is missing." in one_sentence(done)
    assert not (pushed.folder / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", ""),
        (" \n\t", ""),
        ("one\r\n\r\n# two\u2028three\u202efour\x1b[2K", "one\n    \n    # two\n    three"),
        ("```\n</code></pre>\n~~~", "```\n    </code></pre>\n    ~~~"),
        ("it is hidden-token-of-a-job", "it is ***\n"),
        ("it is postgresql://u:p@ss/registry", "it is ***\n"),
    ],
)
def test_a_reason_stays_what_it_is(given, told, monkeypatch):
    import retrain

    monkeypatch.setenv("JOB_TOKEN", "hidden-token-of-a-job")
    monkeypatch.setenv("APP__MODELS__TRACKING_URI", "postgresql://u:p@ss/registry")
    monkeypatch.setitem(os.environ, "REASON", given)
    text = retrain.reason()
    assert text.partition("asked:\n\n    ")[2].startswith(told)
    head, _, quoted = text.partition("asked:\n\n")
    assert head.count("\n") <= 1
    assert all(line.startswith("    ") for line in quoted.splitlines())


def test_a_long_reason_is_cut(monkeypatch):
    import retrain

    monkeypatch.setenv("REASON", "x" * 100_000)
    assert retrain.reason().count("x") == 2000
