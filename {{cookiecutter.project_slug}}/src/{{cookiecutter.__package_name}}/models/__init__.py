"""From a fitted estimator to a verified artifact in a store, and back to predictions.

It uses the contract and ``tables``; whoever needs a model asks ``stores`` for it.
"""
