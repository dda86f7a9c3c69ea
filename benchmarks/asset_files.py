"""The files of assets that are measured: log-normal sizes, empty ones, and some of 20 MB."""

from __future__ import annotations

import hashlib
import random
from functools import cache, partial
from typing import TYPE_CHECKING

from airflow_provider_contensis.sandbox import Catalogue
from airflow_provider_contensis.sandbox.shapes import new_content_type, new_field, new_project

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGE_BYTES = 20 << 20
_EMPTY_SHARE = 0.01
_LARGE_BYTES_SHARE = 0.1  # of all bytes, in files of 20 MB
_SIGMA = 1.6  # most images are small, and most bytes are in large ones


def sizes(number: int, total_bytes: int) -> list[int]:
    """Return the size of each file."""
    chance = random.Random(1)  # noqa: S311 - the same files every time
    empty = round(number * _EMPTY_SHARE)
    large = int(total_bytes * _LARGE_BYTES_SHARE / LARGE_BYTES)
    rest = number - empty - large
    drawn = [chance.lognormvariate(0, _SIGMA) for _ in range(rest)]
    scale = (total_bytes - large * LARGE_BYTES) / sum(drawn)
    found = (
        [min(max(1, int(size * scale)), LARGE_BYTES) for size in drawn] + [0] * empty + [LARGE_BYTES] * large
    )
    chance.shuffle(found)
    return found


def content(number: int, size: int) -> bytes:
    """Return the content of a file: its number, and a part of one buffer of random bytes."""
    start = number * 4_099 % LARGE_BYTES
    return (b"%016d" % number + _random()[start : start + size])[:size]


def sha256(number: int, size: int) -> str:
    """Return the hash of a file's content."""
    return hashlib.sha256(content(number, size)).hexdigest()


def catalogue(all_sizes: Sequence[int]) -> Catalogue:
    """Return a project with an asset for each size."""
    project = new_project("assets", "Assets", "Invented files", ["en-GB"])
    image = new_content_type(
        project, "image", "Image", [new_field("title", "Title")], title_field="title", data_format="asset"
    )
    found = Catalogue(project, [image])
    for number, size in enumerate(all_sizes):
        found.add_asset(
            "image", f"{number}.jpg", partial(content, number, size), fields={"title": str(number)}
        )
    return found


@cache
def _random() -> bytes:
    return random.Random(2).randbytes(2 * LARGE_BYTES)  # noqa: S311 - the same files every time
