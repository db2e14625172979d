"""The pages of docs/ name every setting with its default, and nothing that does not exist."""

import re

import pytest
from conftest import CHECKOUT
from pydantic import BaseModel

from iris_flower_prediction.settings import Settings

PAGES = {path.name: path.read_text("utf-8") for path in sorted(CHECKOUT.glob("docs/*.md"))}
# Its first lines are the name, the description and the author in their own words.
PAGES["README.md"] = "##" + (CHECKOUT / "README.md").read_text("utf-8").partition("\n##")[2]
FIELDS = {name: field.annotation for name, field in Settings.model_fields.items()}
SECTIONS = {name: model for name, model in FIELDS.items() if hasattr(model, "model_fields")}
KEYS = {f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields}


def table(heading: str) -> dict[str, str]:
    """The cell with the default by key, below a heading in docs/environments.md."""
    text = PAGES["environments.md"]
    assert heading in text
    rows = text.partition(heading)[2].partition("\n#")[0].splitlines()
    cells = [row.split("|")[1:3] for row in rows if row.startswith("| `")]
    return {key: default.strip() for keys, default in cells for key in re.findall(r"`(\w+)`", keys)}


def shown(model: type[BaseModel], key: str) -> str:
    """How a page writes the default of a setting."""
    field = model.model_fields[key]
    if field.is_required():
        return "none"
    default = field.get_default(call_default_factory=True)
    if default in ("", {}, ()):
        return "none"
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{text}`" if isinstance(default, (bool, str)) else f"{default:g}"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_there_with_its_default(section):
    told, model = table(f"### [{section}]:"), SECTIONS[section]
    assert told.keys() == model.model_fields.keys()
    for key, default in told.items():
        # A number is written with all its digits; a word may follow, or come before.
        words = [f"{float(w):g}" if re.fullmatch(r"[\d.]+", w) else w for w in default.split()]
        cell = f" {' '.join(words).replace(',', ' ')} "
        assert f" {shown(model, key)} " in cell, f"{section}.{key}"


def test_the_settings_of_no_section_are_there_with_their_defaults():
    told = table("### Before the sections:")
    assert told.keys() == FIELDS.keys() - SECTIONS.keys()
    for key, default in told.items():
        assert shown(Settings, key) in default


@pytest.mark.parametrize("name", PAGES)
def test_no_page_names_a_setting_that_does_not_exist(name):
    dotted = rf"`({'|'.join(SECTIONS)})\.(?!py\b|md\b|json\b|yml\b)(\w+)"
    variable = rf"\bAPP__({'|'.join(SECTIONS).upper()})__([A-Z_]+)\b"
    named = [*re.findall(dotted, PAGES[name]), *re.findall(variable, PAGES[name])]
    assert not {f"{section}.{key}".lower() for section, key in named} - KEYS


@pytest.mark.parametrize("name", PAGES)
def test_every_page_that_is_linked_to_exists(name):
    folder = CHECKOUT if name == "README.md" else CHECKOUT / "docs"
    for link in re.findall(r"\]\(([^)#:]+?)(?:#[\w-]*)?\)", PAGES[name]):
        assert (folder / link).is_file(), link


@pytest.mark.parametrize("name", PAGES)
def test_every_heading_that_is_linked_to_exists(name):
    for page, anchor in re.findall(r"\]\(([^)#:]*)#([\w-]+)\)", PAGES[name]):
        text = PAGES[page.removeprefix("docs/") or name]
        headings = re.findall(r"(?m)^##+ (.+)$", text)
        anchors = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings}
        assert anchor in anchors, f"{page}#{anchor}"
