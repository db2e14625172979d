"""From a fitted estimator to a verified artifact in a store, and back to predictions.

It uses the contract and ``tables``; ``stores`` loads a model by its connection string.
"""
