"""The training pipeline: split, select, validate, register, compare with the champion, plot.

It uses contract.py, data.py, model.py and ``models``, and can draft contract.py from a table.
"""
