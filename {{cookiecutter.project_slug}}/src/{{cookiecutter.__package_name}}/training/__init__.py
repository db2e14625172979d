"""The training pipeline: split, select, validate, register, compare with the champion, plot.

It uses the three files of the project, and ``models`` for what it makes.
"""
