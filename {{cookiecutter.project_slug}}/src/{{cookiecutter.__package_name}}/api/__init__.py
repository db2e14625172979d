"""The API: HTTP requests under the contract, who may ask them, and what is kept and told of them.

It uses ``models`` to predict, and ``tables`` for the database of kept predictions.
"""
