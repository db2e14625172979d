"""The batch job: it scores on local cores or on Spark, and publishes all of a run or nothing.

It uses ``models`` to predict, and ``tables`` to read and write.
"""
