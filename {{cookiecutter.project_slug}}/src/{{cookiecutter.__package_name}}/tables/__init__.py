"""Files and databases: tables by URI, and the tables that the project keeps itself.

It uses ``schema`` and ``settings``. Callers pass the contract that a table is read under.
"""
