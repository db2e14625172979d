"""What counts in this environment, and where each value came from."""

from collections.abc import Iterator

from pydantic import BaseModel

from . import settings
from .masking import MASK, SECRET_NAME, hidden
from .settings import origin


def show(config: BaseModel, sources: list) -> None:
    """Print every setting, its value and its source."""
    rows = [
        (".".join(path), masked(path, value), place(origin(path, sources)))
        for path, value in leaves(config)
    ]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]]
    for key, value, where in rows:
        print(f"{key:{widths[0]}}  {value:{widths[1]}}  {where}")


def leaves(config: BaseModel, above: tuple = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every setting's path and value; of a table that is not empty, every entry's."""
    for name in type(config).model_fields:
        path, value = (*above, name), getattr(config, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, path)
        elif isinstance(value, dict) and value:
            yield from (((*path, str(key)), each) for key, each in value.items())
        else:
            yield path, value


def masked(path: tuple[str, ...], value: object) -> str:
    """A value to be shown: paths as config/ has them, nothing that could be a secret."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text and SECRET_NAME.search(path[-1]):
        return MASK
    return place(hidden(text)) or '""'


def place(text: str) -> str:
    """A path below the project's folder without that folder."""
    return text.replace(f"{settings.root()}/", "", 1)
