"""`slo`: what is promised in config/ becomes rules and a text, both of one number."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import CHECKOUT, PACKAGE

from iris_flower_prediction import settings
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.monitoring.slo.write import rendered

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool: apt-get install prometheus"
)
HOUR, DAY = 60, 24 * 60  # minutes
JOB, GAUGE = f'job="{PACKAGE}"', f'project="{PACKAGE}"'
ANSWERS = f'http_request_duration_seconds_count{{{JOB},route="/predict",status="%s"}}'
SECONDS = f'http_request_duration_seconds_%s{{{JOB},route="/predict",status="200"%s}}'


@pytest.fixture
def in_prod(monkeypatch):
    monkeypatch.setenv("ENVIRONMENT", "prod")


def with_slo(monkeypatch, **chosen: object) -> dict[str, str]:
    for name, value in chosen.items():
        monkeypatch.setenv(f"APP__SLO__{name.upper()}", str(value))
    return rendered(settings.load())


def test_one_number_changes_every_file(in_prod, monkeypatch):
    before = with_slo(monkeypatch)
    after = with_slo(monkeypatch, availability=0.95)
    assert "vector(0.999)" in before["rules.yml"]
    assert "vector(0.95)" in after["rules.yml"]
    assert "(14.4 * 0.05)" in after["rules.yml"]
    assert "99.9 % of the requests" in before["sla.md"]
    assert "95 % of the requests" in after["sla.md"]
    assert "43 minutes" in before["sla.md"]
    assert "36.0 hours" in after["sla.md"]


def test_check_names_what_does_not_follow(project):
    folder = project.folder / "deploy" / "monitoring"
    assert project.run("slo").returncode == 0
    assert project.run("slo", "--check").returncode == 0
    before = (folder / "rules.yml").read_text()
    done = project.run("slo", "--check", APP__SLO__LATENCY_SECONDS=0.35)
    assert done.returncode == 2
    names = "deploy/monitoring/rules.yml, deploy/monitoring/sla.md"
    assert done.stderr == f"error: {names}: outdated; run `make slo`.\n"
    assert (folder / "rules.yml").read_text() == before
    assert project.run("slo", APP__SLO__LATENCY_SECONDS=0.35).returncode == 0
    assert 'le="0.35"' in (folder / "rules.yml").read_text()


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        ({"availability": 0.9}, r"the objective of availability, 0\.9, must be above 0\.9306: "),
        ({"latency_seconds": 0.4}, r"slo\.latency_seconds = 0\.4: choose one of 0\.001, "),
        ({"freshness": 1}, r"slo\.freshness.*less than or equal to 0\.99999"),
    ],
)
def test_what_cannot_be_watched_is_refused(in_prod, monkeypatch, chosen, problem):
    with pytest.raises(ProjectError, match=problem):
        with_slo(monkeypatch, **chosen)


class Rules:
    """The rules of PROD, and what promtool makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.series = folder, {}
        files = rendered(settings.load())
        (folder / "rules.yml").write_text(files["rules.yml"])
        self.alerts = [
            rule
            for group in yaml.safe_load(files["rules.yml"])["groups"]
            for rule in group["rules"]
            if "alert" in rule
        ]

    def expect(self, alert: str, told: dict[int, tuple[str, ...]], **labels: str) -> None:
        """After so many minutes of the series, an alert fires with exactly these severities."""
        tested = []
        for minutes, severities in told.items():
            expected = [
                {"exp_labels": each["labels"] | labels, "exp_annotations": each["annotations"]}
                for each in self.alerts
                if each["alert"] == alert and each["labels"]["sloth_severity"] in severities
            ]
            assert len(expected) == len(severities)
            tested.append({"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": expected})
        series = [{"series": name, "values": values} for name, values in self.series.items()]
        test = {"interval": "1m", "input_series": series, "alert_rule_test": tested}
        file = self.folder / "test.yml"
        whole = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
        file.write_text(json.dumps(whole))
        done = subprocess.run(
            [PROMTOOL, "test", "rules", file], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def rules(tmp_path, in_prod) -> Rules:
    return Rules(tmp_path)


def counted(*parts: tuple[int, int]) -> str:
    """A counter that grows in each minute: by how much, for how many minutes."""
    values, total = ["0"], 0
    for each, minutes in parts:
        values.append(f"{total + each}+{each}x{minutes - 1}")
        total += each * minutes
    return " ".join(values)


def test_every_alert_has_an_entry_in_the_runbook(rules):
    assert len(rules.alerts) == 13
    headings = re.findall(r"(?m)^## (\S+)$", (CHECKOUT / "docs" / "runbook.md").read_text())
    for alert in rules.alerts:
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert page == "docs/runbook.md"
        assert anchor in headings, alert["alert"]


PAGE, TICKET, BOTH, NOTHING = ("page",), ("ticket",), ("page", "ticket"), ()


@pytest.mark.slow
@needs_promtool
class TestBurnRates:
    def test_a_fast_burn_pages_in_minutes_and_ends_soon(self, rules):
        begin, end = 6 * HOUR, 6 * HOUR + 12
        rules.series = {
            ANSWERS % 200: counted((1000, begin), (900, 12), (1000, HOUR)),
            ANSWERS % 500: counted((0, begin), (100, 12), (0, HOUR)),
        }
        told = {begin: NOTHING, begin + 2: NOTHING, end - 1: BOTH, end + 10: TICKET}
        rules.expect("Availability", told)

    def test_a_slow_burn_is_a_ticket_in_hours(self, rules):
        rules.series = {
            ANSWERS % 200: counted((1000, DAY), (996, DAY)),
            ANSWERS % 500: counted((0, DAY), (4, DAY)),
        }
        told = {DAY + HOUR: NOTHING, DAY + 4 * HOUR: NOTHING, DAY + 20 * HOUR: TICKET}
        rules.expect("Availability", told)

    def test_within_the_budget_nothing_fires(self, rules):
        rules.series = {
            ANSWERS % 200: counted((9995, DAY)),
            ANSWERS % 503: counted((5, DAY)),
        }
        rules.expect("Availability", {10: NOTHING, HOUR: NOTHING, 24 * HOUR: NOTHING})

    def test_hours_without_requests_are_neither_good_nor_bad(self, rules):
        rules.series = {
            ANSWERS % 200: counted((900, HOUR), (0, 8 * HOUR)),
            ANSWERS % 500: counted((100, HOUR), (0, 8 * HOUR)),
        }
        rules.expect("Availability", {HOUR: BOTH, 4 * HOUR: TICKET, 8 * HOUR: NOTHING})

    def test_errors_alone(self, rules):
        rules.series = {ANSWERS % 200: f"0x{HOUR}", ANSWERS % 500: counted((10, HOUR))}
        rules.expect("Availability", {10: BOTH})

    def test_slow_answers(self, rules):
        begin = 6 * HOUR
        rules.series = {
            SECONDS % ("bucket", ',le="0.5"'): counted((1000, begin), (700, HOUR)),
            SECONDS % ("bucket", ',le="1.0"'): counted((1000, begin + HOUR)),
            SECONDS % ("count", ""): counted((1000, begin + HOUR)),
        }
        rules.expect("Latency", {begin: NOTHING, begin + 10: NOTHING, begin + 45: BOTH})

    def test_old_predictions(self, rules):
        """The newest one was made an hour before 0:00; it may be 48 hours old."""
        newest = f'model_newest_prediction_seconds{{{GAUGE},source="batch"}}'
        rules.series = {newest: f"-3600x{4 * DAY}"}
        rules.expect("Freshness", {47 * HOUR: NOTHING, 47 * HOUR + 15: PAGE})


@pytest.mark.slow
@needs_promtool
@pytest.mark.parametrize(
    ("alert", "severity", "after", "series"),
    [
        ("TargetDown", "page", 4, {f"up{{{JOB}}}": "1 1 0x20"}),
        ("TargetDown", "page", 3, {"up{job='another'}": "1x20"}),
        (
            *("Saturated", "ticket", 7),
            {
                f'http_requests_in_flight{{{JOB},instance="a"}}': "1 60x20",
                f'http_requests_in_flight{{{JOB},instance="b"}}': "0x20",
                f'http_requests_in_flight_limit{{{JOB},instance="a"}}': "64x20",
                f'http_requests_in_flight_limit{{{JOB},instance="b"}}': "64x20",
            },
        ),
        ("PredictionsNotKept", "ticket", 5, {f"predictions_not_kept_total{{{JOB}}}": "0 0 3x20"}),
        (
            *("ModelNotLoaded", "ticket", 5),
            {f'model_reloads_total{{{JOB},outcome="failed"}}': "0 0 1x20"},
        ),
        (
            *("ModelAlert", "ticket", 3),
            {f'model_alerts_open{{{GAUGE},severity="critical"}}': "0 0 1x9"},
        ),
        (
            *("NotMonitored", "ticket", 49 * HOUR + 1),
            {f'model_window_end_seconds{{{GAUGE},source="api"}}': f"0x{3 * DAY}"},
        ),
        ("NotMonitored", "ticket", HOUR + 1, {f"up{{{JOB}}}": f"1x{DAY}"}),
        (
            *("PipelineFailed", "ticket", 3),
            {f'pipeline_failed{{{GAUGE},pipeline="metrics"}}': "0 0 1x9"},
        ),
    ],
)
def test_other_alerts(rules, alert, severity, after, series):
    rules.series = series
    more = {"TargetDown": {"job": PACKAGE}, "PipelineFailed": {"pipeline": "metrics"}}
    labels = more.get(alert, {})
    if alert == "NotMonitored" and after < DAY:  # it is absent()
        labels = {"project": PACKAGE}
    rules.expect(alert, {1: NOTHING, after: (severity,)}, **labels)
