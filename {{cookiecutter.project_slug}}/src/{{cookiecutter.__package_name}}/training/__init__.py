"""The training pipeline: split, select, validate, register, compare with the champion, plot.

It uses the three files of the project, the first of which it drafts from a table, and ``models``
for what it makes.
"""
