"""Pages from pages/: whatever is filled in is escaped, unless the template itself says that it is markup."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).with_name("pages")


def render(name: str, **values: Any) -> str:
    """The text of template `name` with its values; one that the template asks for and that is not given is an error."""
    pages = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=name.endswith(".html"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return pages.get_template(name).render(values)
