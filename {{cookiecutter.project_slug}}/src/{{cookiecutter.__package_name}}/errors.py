"""The one exception that the command line turns into a sentence instead of a traceback."""


class ProjectError(Exception):
    """What is wrong, where, and what to do about it, in one sentence for the user."""
