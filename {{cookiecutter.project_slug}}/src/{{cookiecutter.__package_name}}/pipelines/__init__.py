"""The pipelines of this project, what runs them on this machine, and their crontab.

It uses ``tables`` for a lock and a record, and runs the other rooms only as processes.
"""
