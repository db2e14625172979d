"""Model monitoring: labels, metrics of a window of predictions, data quality, drift and alerts.

It uses contract.py, model.py, ``models`` for the training reference, and the outputs of the flavor.
"""
