"""The signals of the model and its pipelines, of every kind of service."""

from ...settings import Settings
from .signals import OURS, Alert, Panel, Signals


def signals(config: Settings) -> Signals:
    hours, found = config.monitoring.max_age_hours, f"model_metric{{{OURS}"
    looked = f"time() - max by (source) (model_window_end_seconds{{{OURS}}})"
    alerts = [
        Alert(
            "TargetDown",
            f"up{{{OURS}}} == 0 or absent(up{{{OURS}}})",
            *(2, "page"),
            "Prometheus gets no metrics: the service is down, or cannot be reached.",
            "targetdown",
        ),
        Alert(
            "ModelAlert",
            f'max(model_alerts_open{{{OURS},severity="critical"}}) > 0',
            *(0, "ticket"),
            "`monitor` found something critical; the command `status` tells what.",
            "drift",
        ),
        Alert(
            "NotMonitored",
            f"{looked} > {hours * 3600:g}",
            *(0, "ticket"),
            f"`monitor` has not looked at the predictions for more than {hours:g} hours.",
            "notmonitored",
        ),
        Alert(
            "PipelineFailed",
            f"max by (pipeline) (pipeline_failed{{{OURS}}}) > 0",
            *(0, "ticket"),
            "The last run of a pipeline failed.",
            "pipelinefailed",
        ),
    ]
    panels = [
        Panel(
            "Open alerts of the model",
            {"{{severity}}": f"max by (severity) (model_alerts_open{{{OURS}}})"},
            kind="stat",
        ),
        Panel(
            "Drift (PSI)",
            {"{{source}} {{column}}": f'max by (source, column) ({found},name="psi"}})'},
        ),
        Panel(
            "Performance",
            {"{{source}} {{name}}": f'{found},kind=~"performance|business"}}'},
        ),
    ]
    runs = {
        "Monitored": f"changes(model_window_end_seconds{{{OURS}}}[$__interval]) > 0",
        "Pipeline": f"changes(pipeline_started_timestamp_seconds{{{OURS}}}[$__interval]) > 0",
    }
    return Signals([], alerts, panels, runs)
