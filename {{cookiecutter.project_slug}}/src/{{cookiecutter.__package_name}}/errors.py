"""The one exception that the command line turns into a sentence instead of a traceback."""


class ProjectError(Exception):
    """What is wrong, where, and what to do about it, in one sentence for the user."""


def brief(error: BaseException) -> str:
    """The first line of a library's error, to be part of a sentence of ours."""
    lines = str(getattr(error, "orig", None) or error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
