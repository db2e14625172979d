"""Files and databases: tables by URI, and the tables that the project keeps itself.

It uses ``schema`` and ``settings``; callers pass the contract that a table is read under.
"""
