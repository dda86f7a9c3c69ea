"""Dotted field paths, checked against the content types: a typo would select nothing, in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import did_you_mean
from airflow_provider_contensis.export.table.columns import COMPUTED, LINK, Leaf, Many, entry_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.table.columns import Shape

_SHOWN = 20
_ANYTHING = Leaf("json")


def check_paths(
    argument: str, paths: Iterable[str], content_types: Sequence[ContentType], *, indexes: bool = False
) -> None:
    """Refuse a path that no content type has.

    :param argument: begins the error message, such as `fields contains`.
    :param content_types: the definitions of those asked for; if there are none, nothing can be checked.
    :param indexes: whether a path may name an item of an array by its number.
    :raises ConfigurationError: names the path, and the most similar one that exists.
    """
    shapes = [entry_shape(content_type) for content_type in content_types]
    for path in paths:
        if not shapes or any(shape_at(shape, path, indexes=indexes) for shape in shapes):
            continue
        known = sorted({known for shape in shapes for known, _ in _paths(shape)})
        names = {name for shape in shapes for name in shape.members}
        raise ConfigurationError(
            f"{argument} {path!r}, which does not exist.{did_you_mean(path, known)} "
            f"Available: {_listed(names)}."
        )


def check_link_depths(paths: Iterable[str], content_types: Sequence[ContentType]) -> None:
    """Refuse a path in `field_link_depths` that leads to no link.

    :raises ConfigurationError: names the path, and those of links.
    """
    paths = tuple(paths)
    check_paths("field_link_depths contains", paths, content_types)
    shapes = [entry_shape(content_type) for content_type in content_types]
    for path in paths:
        found = [shape for each in shapes if (shape := shape_at(each, path))]
        if found and not any(map(_holds_links, found)):
            known = {path for each in shapes for path, shape in _paths(each) if _without_array(shape) == LINK}
            raise ConfigurationError(
                f"field_link_depths contains {path!r}, which holds no links. "
                f"Fields with links: {_listed(known) or 'none'}."
            )


def shape_at(shape: Shape, path: str, *, indexes: bool = False) -> Shape | None:
    """Return the shape of what a path leads to; None if that is nothing.

    Which fields a linked entry has is not known: any name but those below `sys` may be one.
    """
    here: Shape = shape
    for name in path.split("."):
        if isinstance(here, Many):
            if indexes and name.isdecimal():
                here = here.item
                continue
            here = _without_array(here)
        if here == LINK:
            here = COMPUTED["sys"] if name == "sys" else _ANYTHING
        elif isinstance(here, Leaf):
            if here.kind not in {"json", "mixed"}:
                return None
            here = _ANYTHING
        elif (member := _members(here).get(name)) is not None:
            here = member
        else:
            return None
    return here


def _members(shape: Shape) -> dict[str, Shape]:
    return {} if isinstance(shape, Leaf | Many) else dict(shape.members)


def _without_array(shape: Shape) -> Shape:
    return _without_array(shape.item) if isinstance(shape, Many) else shape


def _holds_links(shape: Shape) -> bool:
    shape = _without_array(shape)
    if isinstance(shape, Leaf):
        return shape == _ANYTHING
    return shape == LINK or any(map(_holds_links, _members(shape).values()))


def _paths(shape: Shape, prefix: str = "") -> Iterator[tuple[str, Shape]]:
    for name, member in _members(_without_array(shape)).items():
        yield f"{prefix}{name}", member
        yield from _paths(member, f"{prefix}{name}.")


def _listed(names: Iterable[str]) -> str:
    every = sorted(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return f"{', '.join(every[:_SHOWN])}{more}"
