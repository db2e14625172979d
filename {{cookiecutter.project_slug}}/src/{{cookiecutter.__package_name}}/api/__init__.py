"""The API: HTTP requests that follow the contract, authentication, kept predictions, and metrics.

It uses ``models`` to predict, and ``tables`` for the database of kept predictions.
"""
