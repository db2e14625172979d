"""The batch job: runs on the machine's own cores or on Spark, published as a whole or not at all.

It uses ``models`` to predict, and ``tables`` to read and write.
"""
