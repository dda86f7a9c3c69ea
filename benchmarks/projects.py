"""Projects of many content types, which the sandbox serves.

The benchmark server knows one content type and simple windows. These projects are small enough for the
sandbox, which answers any search that an export may send.
"""

from __future__ import annotations

import json
import math
import random
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.sandbox import Catalogue, synthetic_catalogue
from airflow_provider_contensis.sandbox.documents import Document
from benchmarks import content

if TYPE_CHECKING:
    from collections.abc import Callable

UNIVERSITY_TYPES = 80
LANGUAGES = ("en-GB", "cy")
# As in a university's project: most content types hold a few dozen entries, one more than a page of 500.
_MEAN, _SIGMA = 56, 1.3
_TRANSLATED = 0.8

FOLDER_TYPES = 60
_FOLDER_ENTRIES = 1_985  # for each content type: 505 MiB in all


def university(types: int = UNIVERSITY_TYPES, mean: float = _MEAN) -> Catalogue:
    """Return a project with many small content types in two languages.

    :param types: the number of content types.
    :param mean: the average number of entries of a content type, in the first language.
    """
    sizes = log_normal_sizes(types, mean)
    project = content.project() | {"id": "university", "supportedLanguages": list(LANGUAGES)}
    indices = list(range(sum(sizes)))
    random.Random(12).shuffle(indices)  # noqa: S311 - repeatable: mixes the created times of content types
    content_types, documents = [], []
    for number, size in enumerate(sizes):
        content_type = f"type{number:02}"
        content_types.append(
            content.content_type() | {"id": content_type, "supportedLanguages": list(LANGUAGES)}
        )
        for place in range(size):
            languages = LANGUAGES if place < size * _TRANSLATED else LANGUAGES[:1]
            film = json.loads(content.entry(indices.pop())[:-1])
            for language in languages:
                document = Document.of(_entry(film, content_type, language, languages), "latest")
                documents += [document, document.with_status("published")]
    return Catalogue(project, content_types, documents)


def folder(types: int = FOLDER_TYPES, entries: int = _FOLDER_ENTRIES) -> Catalogue:
    """Return a project with content types of one size, in one language.

    :param types: the number of content types.
    :param entries: the number of entries of each.
    """
    parts = [
        synthetic_catalogue(
            entries, body_bytes=3_200, project_id="archive", content_type_id=f"type{number:02}"
        )
        for number in range(types)
    ]
    return Catalogue(
        parts[0].project,
        [definition for part in parts for definition in part.content_types.values()],
        [document for part in parts for document in part.select(lambda _: True)[1]],
    )


PROJECTS: dict[str, Callable[[], Catalogue]] = {"university": university, "folder": folder}


def log_normal_sizes(types: int, mean: float) -> list[int]:
    """Return the sizes of content types: the quantiles of a log-normal distribution, at least 1 each."""
    median = mean / math.exp(_SIGMA**2 / 2)
    points = (NormalDist().inv_cdf((number + 0.5) / types) for number in range(types))
    return [max(1, round(median * math.exp(_SIGMA * point))) for point in points]


def _entry(
    film: dict[str, Any], content_type: str, language: str, languages: tuple[str, ...]
) -> dict[str, Any]:
    """Return a film as an entry of another content type and language."""
    missing = [other for other in LANGUAGES if other not in languages]
    sys = film["sys"] | {
        "projectId": "university",
        "contentTypeId": content_type,
        "language": language,
        "availableLanguages": list(languages),
        "unavailableLanguages": missing,
    }
    return film | {"sys": sys}
