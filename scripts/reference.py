"""Write the reference from docstrings, as Markdown that needs no site generator.

    python scripts/reference.py

It describes what the table in docs/reference.md lists as public, and replaces what follows the table.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import sys
import textwrap
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_contensis import exceptions

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
BEGIN = "The rest of this page is written from the docstrings, by `scripts/reference.py`.\n"

_HEADINGS = {
    "hooks": "The hook",
    "exceptions": "Exceptions",
    "sandbox": "The sandbox",
}
_INTRODUCTIONS = {
    "exceptions": f"\n```text\n{(exceptions.__doc__ or '').partition(chr(10) * 2)[2].strip()}\n```\n",
    "lineage": "\n[Lineage](lineage.md) shows how to use it.\n",
    "sandbox": "\n[The sandbox](sandbox.md) shows how to use it.\n",
}
_LISTED = re.compile(r"^\| `airflow_provider_contensis\.([\w.]+)` \|", re.MULTILINE)
_FIELD = re.compile(r"^:(param|return|returns|raises)(?: (\w+))?: ?", re.MULTILINE)
_HIDDEN = {"get_connection_form_widgets", "get_ui_field_behaviour"}  # Airflow calls them
_MAX_LINE = 100


class Docstring(NamedTuple):
    """A docstring, taken apart.

    :param text: what is before the fields.
    :param fields: kind, name and text of each field, such as `:param name: text`.
    """

    text: str
    fields: list[tuple[str, str, str]]

    @classmethod
    def of(cls, documented: Any) -> Docstring:
        """Take the docstring of a class or a function apart."""
        text, *rest = _FIELD.split(inspect.getdoc(documented) or "")
        fields = [
            (kind.rstrip("s") if kind == "returns" else kind, name or "", " ".join(content.split()))
            for kind, name, content in zip(*[iter(rest)] * 3, strict=True)
        ]
        return cls(text.strip(), fields)


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


def page() -> str:
    """Return the page as it should be."""
    written, begin, _ = PAGE.read_text().partition(BEGIN)
    if not begin:
        raise SystemExit(f"{PAGE} lacks the line {BEGIN!r}")
    parts = [written, BEGIN]
    heading = None
    for path in _LISTED.findall(written):
        module, _, name = path.rpartition(".")
        public = getattr(importlib.import_module(f"airflow_provider_contensis.{module}"), name)
        room = module.partition(".")[0]
        if not inspect.getdoc(public) or not (inspect.isclass(public) or inspect.isfunction(public)):
            continue  # a constant, which the table describes
        if heading != room:
            heading = room
            parts.append(f"\n## {_HEADINGS.get(room, room.replace('_', ' ').capitalize())}\n")
            parts.append(_INTRODUCTIONS.get(room, ""))
        parts += [f"\n### {name}\n", *_described(public, name)]
    return "".join(parts)


def _described(public: Any, name: str) -> list[str]:
    is_error = inspect.isclass(public) and issubclass(public, Exception)
    parts = [f"\nA subclass of `{public.__bases__[0].__name__}`.\n"] if is_error else []
    if not (is_error and "__init__" not in vars(public)) and not (
        inspect.isclass(public) and issubclass(public, enum.Enum)
    ):
        parts += _signature(public, name)
    parts += _text(public)
    if inspect.isclass(public) and not is_error:
        for member_name, member in vars(public).items():
            parts += _member(member_name, member, name)
    return parts


def _member(name: str, member: Any, owner: str) -> list[str]:
    function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    is_value = isinstance(member, property | cached_property)
    if name.startswith("_") or name in _HIDDEN or not (is_value or inspect.isfunction(function)):
        return []
    if not inspect.getdoc(function):
        return []
    signature = [] if is_value else _signature(function, name)
    return [f"\n#### {owner}.{name}\n", *signature, *_text(function)]


def _signature(function: Any, name: str) -> list[str]:
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    shown = [_parameter(each) for each in parameters]
    kinds = [each.kind for each in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returned = signature.return_annotation
    suffix = "" if returned in {inspect.Signature.empty, None, "None"} else f" -> {_annotation(returned)}"
    text = f"{name}({', '.join(shown)}){suffix}"
    if len(text) > _MAX_LINE:
        text = f"{name}(\n{''.join(f'    {each},{chr(10)}' for each in shown)}){suffix}"
    return [f"\n```text\n{text}\n```\n"]


def _parameter(parameter: inspect.Parameter) -> str:
    stars: dict[Any, str] = {inspect.Parameter.VAR_KEYWORD: "**", inspect.Parameter.VAR_POSITIONAL: "*"}
    text = f"{stars.get(parameter.kind, '')}{parameter.name}"
    if parameter.annotation is not inspect.Parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not inspect.Parameter.empty:
        default = parameter.default
        shown = str(default) if isinstance(default, enum.Enum) else repr(default)
        text += f" = {'…' if shown.startswith('<') else shown}"
    return text


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _text(documented: Any) -> list[str]:
    docstring = Docstring.of(documented)
    parts = [f"\n{docstring.text}\n"] if docstring.text else []
    bullets = []
    for kind, name, text in docstring.fields:
        start = {"param": f"`{name}`: ", "return": "Returns ", "raises": f"Raises `{name}`: "}[kind]
        bullets.append(textwrap.fill(start + text, 120, initial_indent="- ", subsequent_indent="  "))
    return [*parts, *(["\n", "\n".join(bullets), "\n"] if bullets else [])]


if __name__ == "__main__":
    sys.exit(main())
