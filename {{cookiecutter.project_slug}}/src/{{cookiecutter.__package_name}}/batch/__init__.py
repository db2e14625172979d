"""The batch job: runs that resume, on the machine's own cores or on Spark, published as a whole.

It uses ``models`` to predict, and ``tables`` to read and write.
"""
