"""Files and databases: tables by URI, and the tables that the project keeps itself.

It uses ``schema`` and ``settings``; which contract a table is read under is its caller's to say.
"""
