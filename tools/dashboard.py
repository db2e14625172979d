"""The Grafana dashboard of a rendered project, as JSON.

It is in the template and not in the project, because a dashboard is edited in Grafana: no number of
the settings is in it. Grafana 10 and later.
"""

from string import ascii_uppercase

# The grid of a dashboard is 24 columns wide.
COLUMNS, WIDTH, HEIGHT = 24, 8, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Colors of an error budget: spent, nearly spent, and the rest.
BUDGET = [
    {"color": "red", "value": None},
    {"color": "orange", "value": 0},
    {"color": "green", "value": 0.25},
]
DURATION = "http_request_duration_seconds"


def dashboard(package: str, flavor: str) -> dict:
    """The dashboard of a project's package; ``flavor`` is batch, api or both."""
    ours, gauge = f'job="{package}"', f'project="{package}"'
    panels = [*objectives(f'sloth_service="{package}"')]
    events = {}
    if flavor != "batch":
        panels += of_api(ours)
        events["API started"] = f"max(process_start_time_seconds{{{ours}}})"
        events["Model trained"] = f"max(model_trained_timestamp_seconds{{{ours}}})"
    if flavor != "api":
        newest = f'model_newest_prediction_seconds{{{gauge},source="batch"}}'
        panels.append(panel("Age of the newest predictions", "s", batch=f"time() - max({newest})"))
    panels += of_model(gauge)
    events["Monitored"] = f"max by (source) (model_window_end_seconds{{{gauge}}})"
    started = f"pipeline_started_seconds{{{gauge}}}"
    events["Pipeline {{pipeline}}"] = f"max by (pipeline) ({started})"
    for number, each in enumerate(panels):
        row, column = divmod(number * WIDTH, COLUMNS)
        each["id"] = number + 1
        each["gridPos"] = {"x": column, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT}
    name = package.replace("_", " ").capitalize()
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    return {
        "title": name,
        "uid": package[:40],
        "schemaVersion": 39,
        "time": {"from": "now-24h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [source]},
        "annotations": {"list": [annotation(*each) for each in events.items()]},
        "panels": panels,
    }


def objectives(service: str) -> list[dict]:
    left = f"slo:period_error_budget_remaining:ratio{{{service}}}"
    burn = f"slo:current_burn_rate:ratio{{{service}}}"
    budgets = panel("Error budget left", "percentunit", "stat", **{"{{sloth_slo}}": left})
    budgets["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": BUDGET}
    firing = f'ALERTS{{{service},alertstate="firing"}}'
    return [
        budgets,
        panel("Burn rate", **{"{{sloth_slo}}": burn}),
        panel("Alerts", **{"{{alertname}} {{sloth_severity}}": firing}),
    ]


def of_api(ours: str) -> list[dict]:
    """The four golden signals, the answers by status, and what is asked."""
    requests = f'{ours},route=~"/predict|/invocations|/v2/models/[{{]name}}/infer"'

    def per_second(labels: str, series: str) -> str:
        return f"sum by ({labels}) (rate({series}[$__rate_interval]))"

    def in_range(part: str, labels: str = "status") -> str:
        return f"sum by ({labels}) (increase({DURATION}_{part}{{{requests}}}[$__range]))"

    rates = per_second("le", f"{DURATION}_bucket{{{requests}}}")
    buckets = in_range("bucket", "le, status")
    in_flight = f"http_requests_in_flight{{{ours}}} / http_requests_in_flight_limit{{{ours}}}"
    answers = {
        "count": in_range("count"),
        "average": f"{in_range('sum')} / ({in_range('count')} > 0)",
        "p95": f"histogram_quantile(0.95, {buckets})",
        "p99": f"histogram_quantile(0.99, {buckets})",
    }
    quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    latency = {name: f"histogram_quantile({q}, {rates})" for name, q in quantiles.items()}
    total, errors = f"http_requests_total{{{requests}}}", f"http_errors_total{{{requests}}}"
    predictions = per_second("prediction", f"predictions_total{{{ours}}}")
    violations = per_second("column", f"contract_violations_total{{{ours}}}")
    return [
        panel("Latency", "s", **latency),
        panel("Requests per second", **{"{{route}}": per_second("route", total)}),
        panel("Errors per second", **{"{{code}}": per_second("code", errors)}),
        panel("Saturation", "percentunit", **{"in flight": f"max({in_flight})"}),
        table(panel("Answers by status", "s", "table", **answers)),
        panel("Predictions per second", **{"{{prediction}}": predictions}),
        panel("Values that break the contract per second", **{"{{column}}": violations}),
    ]


def of_model(gauge: str) -> list[dict]:
    def largest(labels: str, more: str) -> str:
        return f"max by ({labels}) (model_metric{{{gauge},{more}}})"

    alerts = f"max by (severity) (model_alerts_open{{{gauge}}})"
    drift = largest("source, column", 'name="psi"')
    measured = largest("source, version, name", 'kind=~"performance|business"')
    return [
        panel("Open alerts of the model", "short", "stat", **{"{{severity}}": alerts}),
        panel("Drift (PSI)", **{"{{source}} {{column}}": drift}),
        panel("Performance", **{"{{source}} {{version}} {{name}}": measured}),
    ]


def panel(title: str, unit: str = "short", kind: str = "timeseries", **queries: str) -> dict:
    """A panel; ``queries`` are in PromQL, by their legends."""
    targets = [
        {"refId": letter, "expr": query, "legendFormat": legend, "datasource": SOURCE}
        for letter, (legend, query) in zip(ascii_uppercase, queries.items(), strict=False)
    ]
    return {
        "title": title,
        "type": kind,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }


def table(panel: dict) -> dict:
    """Join the queries of a panel to one table: a row for each status, a column for each query."""
    names = {f"Value #{each['refId']}": each["legendFormat"] for each in panel["targets"]}
    for target in panel["targets"]:
        target |= {"format": "table", "instant": True}
    columns = {"excludeByName": {"Time": True}, "renameByName": names}
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": columns},
    ]
    unit = [{"id": "unit", "value": "short"}]
    count = {"matcher": {"id": "byName", "options": "count"}, "properties": unit}
    panel["fieldConfig"]["overrides"] = [count]
    return panel


def annotation(title: str, query: str) -> dict:
    """A mark at the time that is the query's value, in seconds."""
    of_time = {"expr": f"{query} * 1000", "useValueForTime": True, "titleFormat": title}
    looks = {"enable": True, "iconColor": "blue", "step": "60s"}
    return {"name": title, "datasource": SOURCE, **looks, **of_time}
