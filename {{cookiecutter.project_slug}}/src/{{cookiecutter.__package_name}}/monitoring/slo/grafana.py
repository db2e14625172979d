"""The dashboard for Grafana 10 and later, as JSON."""

from itertools import count
from string import ascii_uppercase
from typing import Any

from ...settings import PACKAGE
from .signals import Panel, Signals

# The grid of a dashboard is 24 columns wide.
COLUMNS, HEIGHT = 24, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OURS = f'sloth_service="{PACKAGE}"'
# Colors of an error budget: spent, nearly spent, and the rest.
BUDGET = [
    {"color": "red", "value": None},
    {"color": "orange", "value": 0},
    {"color": "green", "value": 0.25},
]
OBJECTIVES = [
    Panel(
        "Error budget left",
        {"{{sloth_slo}}": f"slo:period_error_budget_remaining:ratio{{{OURS}}}"},
        "percentunit",
        "stat",
    ),
    Panel("Burn rate", {"{{sloth_slo}}": f"slo:current_burn_rate:ratio{{{OURS}}}"}),
    Panel("Alerts", {"{{alertname}} {{sloth_severity}}": f'ALERTS{{{OURS},alertstate="firing"}}'}),
]


def dashboard(signals: Signals) -> dict[str, Any]:
    panels, at = [], count(1)
    x = y = 0
    for panel in [*OBJECTIVES, *signals.panels]:
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        place = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
        panels.append({"id": next(at), "gridPos": place, **_panel(panel)})
        x += panel.width
    name = PACKAGE.replace("_", " ").capitalize()
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    events = [
        {"name": title, "datasource": SOURCE, "enable": True, "iconColor": "blue", "step": "60s"}
        # The value is when it happened, in milliseconds.
        | {"expr": f"{query} * 1000", "useValueForTime": True, "titleFormat": title}
        for title, query in signals.annotations.items()
    ]
    return {
        "title": name,
        "uid": PACKAGE[:40],
        "schemaVersion": 39,
        "time": {"from": "now-24h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [source]},
        "annotations": {"list": events},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": letter, "expr": query, "legendFormat": legend, "datasource": SOURCE}
        | ({"format": "table", "instant": True} if panel.kind == "table" else {})
        for letter, (legend, query) in zip(ascii_uppercase, panel.queries.items(), strict=False)
    ]
    found: dict[str, Any] = {
        "title": panel.title,
        "type": panel.kind,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
    }
    if panel.kind == "stat" and panel.unit == "percentunit":
        found["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": BUDGET}
    if panel.kind == "table":
        names = {f"Value #{each['refId']}": each["legendFormat"] for each in targets}
        hidden = {"excludeByName": {"Time": True}, "renameByName": names}
        found["transformations"] = [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": hidden},
        ]
        found["fieldConfig"]["overrides"] = [
            {
                "matcher": {"id": "byName", "options": "count"},
                "properties": [{"id": "unit", "value": "short"}],
            }
        ]
    return found
