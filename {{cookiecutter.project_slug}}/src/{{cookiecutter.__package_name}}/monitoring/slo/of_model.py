"""The signals of the model and its pipelines, of every kind of service."""

from ...settings import Settings
from .signals import GAUGE, OURS, Alert, Panel, Signals


def signals(config: Settings) -> Signals:
    hours, windows = config.slo.monitored_hours, f"model_window_end_seconds{{{GAUGE}}}"
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
            f'max(model_alerts_open{{{GAUGE},severity="critical"}}) > 0',
            *(0, "ticket"),
            "`monitor` found something critical; the command `status` tells what.",
            "modelalert",
        ),
        Alert(
            "NotMonitored",
            f"time() - min(max by (source) ({windows})) > {hours * 3600:.0f} or absent({windows})",
            *(60, "ticket"),
            f"`monitor` has not looked at the predictions for {hours:g} hours.",
            "notmonitored",
        ),
        Alert(
            "PipelineFailed",
            f"max by (pipeline) (pipeline_failed{{{GAUGE}}}) > 0",
            *(0, "ticket"),
            "The last run of a pipeline failed.",
            "pipelinefailed",
        ),
    ]
    return Signals([], alerts, PANELS, ANNOTATIONS)


def _largest(labels: str, more: str) -> str:
    return f"max by ({labels}) (model_metric{{{GAUGE},{more}}})"


PANELS = [
    Panel(
        "Open alerts of the model",
        {"{{severity}}": f"max by (severity) (model_alerts_open{{{GAUGE}}})"},
        kind="stat",
    ),
    Panel("Drift (PSI)", {"{{source}} {{column}}": _largest("source, column", 'name="psi"')}),
    Panel(
        "Performance",
        {
            "{{source}} {{version}} {{name}}": _largest(
                "source, version, name", 'kind=~"performance|business"'
            )
        },
    ),
]
ANNOTATIONS = {
    "Monitored": f"max by (source) (model_window_end_seconds{{{GAUGE}}})",
    "Pipeline {{pipeline}}": f"max by (pipeline) (pipeline_started_seconds{{{GAUGE}}})",
}
