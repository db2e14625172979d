"""Service level objectives, and what Prometheus, Alertmanager and Grafana make of them.

It uses the settings, and of the other rooms only names of metrics.
"""
