"""Catalogues for tests that need several content types."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from airflow_provider_contensis.sandbox import Catalogue, synthetic_catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def catalogue_of(sizes: Mapping[str, int], languages: Sequence[str] = ("en-GB",)) -> Catalogue:
    """Return a catalogue with content types of given sizes; each entry exists in every language."""
    parts = [
        synthetic_catalogue(size, languages=languages, content_type_id=id_, body_bytes=10)
        for id_, size in sizes.items()
    ]
    content_types = [content_type for part in parts for content_type in part.content_types.values()]
    return Catalogue(
        parts[0].project, content_types, [each for part in parts for each in part.select(lambda _: True)[1]]
    )


def log_normal_sizes(types: int, entries: int, *, seed: int = 0) -> dict[str, int]:
    """Return sizes of content types as real projects have them: most are small, a few are large."""
    chance = random.Random(seed)
    weights = [math.exp(chance.gauss(0, 1.4)) for _ in range(types)]
    return {
        f"type{number:02}": round(entries * weight / sum(weights)) for number, weight in enumerate(weights)
    }
