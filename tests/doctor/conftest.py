"""An environment that has something of everything that the doctor looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.doctor import DoctorOptions, Examination, examine
from airflow_provider_contensis.sandbox import Catalogue, synthetic_catalogue
from airflow_provider_contensis.sandbox.documents import VERSION_STATUSES, Document
from airflow_provider_contensis.sandbox.shapes import new_content_type, new_entry, new_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Sandbox

LANGUAGES = ("en-GB", "cy")
# Fewer than the catalogue has, so that capped counts show in a small one.
ROW_LIMIT = 250
CREATED = "2031-03-28T08:00:01.5Z"


@pytest.fixture(scope="session")
def doctor_catalogue() -> Catalogue:
    """Drafts, links, an asset and a deleted entry; only for tests that change nothing."""
    parts = [
        synthetic_catalogue(120, languages=LANGUAGES, drafts=10, edited=10, body_bytes=60),
        synthetic_catalogue(80, languages=LANGUAGES, body_bytes=60, content_type_id="event"),
        synthetic_catalogue(80, languages=LANGUAGES, body_bytes=60, content_type_id="person"),
    ]
    project = parts[0].project
    image = new_content_type(
        project, "image", "Image", [new_field("title", "Title")], title_field="title", data_format="asset"
    )
    assets = [
        new_entry(
            project,
            image,
            {"title": "Lantern"},
            entry_id="3c7be9a2-51f0-4d7a-9b0c-0f8f4f6f2d90",
            language=language,
            available_languages=LANGUAGES,
            title="Lantern",
            slug="lantern",
            created=CREATED,
            published=CREATED,
        )
        for language in LANGUAGES
    ]
    for asset in assets:
        asset["sys"]["properties"] = {"filename": "lantern.jpg", "fileSize": 433_023}
    documents = [each for part in parts for each in part.select(lambda _: True)[1]]
    documents += [Document.of(asset, status) for asset in assets for status in VERSION_STATUSES]
    types = [image, *(each for part in parts for each in part.content_types.values())]
    catalogue = Catalogue(project, types, documents)
    for language in LANGUAGES:
        target = catalogue.add("person", {"title": "Director"}, language=language)
        sys = {"id": target, "language": language, "dataFormat": "entry", "contentTypeId": "person"}
        for number in range(20):
            fields = {"title": f"Premiere {number}", "settings": {"director": {"sys": sys}}}
            catalogue.add("event", fields, language=language)
        for content_type_id in ("article", "event", "person"):
            catalogue.delete(catalogue.add(content_type_id, {"title": "Gone"}, language=language))
    return catalogue


@pytest.fixture
def examined(make_client: Callable[..., ContensisClient]) -> Callable[[Sandbox], Examination]:
    """Return a function that examines a sandbox."""

    def run(sandbox: Sandbox) -> Examination:
        return examine(make_client(sandbox), sandbox.project_id, DoctorOptions(row_limit=ROW_LIMIT))

    return run
