"""The HTML report of ``monitor``: what changed, metrics, drift and data quality, the worst first.

It uses what ``monitoring`` found, and its metrics of earlier windows.
"""
