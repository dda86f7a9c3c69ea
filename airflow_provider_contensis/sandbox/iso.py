"""The ISO lists from pycountry, as a CMS would hold them after a few years of use."""

from __future__ import annotations

import gettext
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox.catalogue import Catalogue
from airflow_provider_contensis.sandbox.chance import Draw
from airflow_provider_contensis.sandbox.documents import Document, timestamp
from airflow_provider_contensis.sandbox.shapes import (
    guid,
    link,
    new_content_type,
    new_entry,
    new_field,
    new_project,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType

_PRIMARY = "en-GB"
_TRANSLATED = ("cy", "fr")
_PROJECT = new_project(
    "isoCodes",
    "ISO codes",
    "Countries, subdivisions, languages and currencies of the world",
    (_PRIMARY, *_TRANSLATED),
)
_DOMAINS = {"country": "iso3166-1", "subdivision": "iso3166-2", "language": "iso639-3", "currency": "iso4217"}
_SCOPES = {"I": "Individual", "M": "Macrolanguage", "S": "Special"}
_TYPES = {
    "A": "Ancient",
    "C": "Constructed",
    "E": "Extinct",
    "H": "Historical",
    "L": "Living",
    "S": "Special",
}

_FIRST_IMPORT = datetime(2019, 1, 7, 8, tzinfo=UTC)
_IMPORT_SECONDS = 1600 * 86400
_EDIT_SECONDS = 700 * 86400
_LANGUAGES_PER_IMPORT = 500
_AUTHORS = ("ada.brook", "ServicesUser", "iwan.parry", "lucie.morel")


class _Reference(NamedTuple):
    """A link whose language is not resolved yet."""

    kind: str
    code: str


class _Item(NamedTuple):
    """An item of a list.

    :param kind: its content type.
    :param code: its code, unique in the list.
    :param import_name: the import that brought it into the CMS.
    :param english: its fields in English; `name` is the title.
    :param localised: the fields that may be translated.
    :param description_field: the field with the entry's description.
    """

    kind: str
    code: str
    import_name: str
    english: dict[str, Any]
    localised: tuple[str, ...]
    description_field: str

    @property
    def entry_id(self) -> str:
        return guid(self.kind, self.code)


class _Untranslated(gettext.NullTranslations):
    """The fallback for text that a translation catalogue does not hold."""

    def gettext(self, message: str) -> str:  # noqa: ARG002  # the base class's signature
        return ""


def iso_catalogue() -> Catalogue:
    """Return the ISO lists as the project `isoCodes`.

    It holds countries, subdivisions, languages and currencies in English, and in Welsh and French if
    pycountry's translations have the name. Subdivisions link to their country and their parent subdivision.
    Some entries were never published, some have a newer draft. Ids and dates are the same every time.

    :raises ModuleNotFoundError: pycountry is not installed; the message says how to install it.
    """
    return Catalogue(_PROJECT, _content_types(), _documents())


def _content_types() -> list[dict[str, Any]]:
    name = new_field("name", "Name", required={}, maxLength={"value": 200})
    return [
        new_content_type(
            _PROJECT,
            "country",
            "Country",
            [
                name,
                new_field("officialName", "Official name"),
                new_field("commonName", "Common name"),
                new_field("alpha2", "Alpha-2 code", required={}, regex={"pattern": "^[A-Z]{2}$"}),
                new_field("alpha3", "Alpha-3 code", required={}, regex={"pattern": "^[A-Z]{3}$"}),
                new_field("numeric", "Numeric code", required={}, regex={"pattern": "^[0-9]{3}$"}),
                new_field("flag", "Flag"),
                new_field("subdivisionCount", "Number of subdivisions", "integer", min={"value": 0}),
            ],
            description="ISO 3166-1",
            title_field="name",
            description_field="officialName",
        ),
        new_content_type(
            _PROJECT,
            "subdivision",
            "Subdivision",
            [
                name,
                new_field("code", "Code", required={}, maxLength={"value": 6}),
                new_field("type", "Type"),
                new_field(
                    "country",
                    "Country",
                    "object",
                    "entry",
                    required={},
                    allowedContentTypes={"contentTypes": ["country"]},
                ),
                new_field(
                    "parent",
                    "Part of",
                    "object",
                    "entry",
                    allowedContentTypes={"contentTypes": ["subdivision"]},
                ),
            ],
            description="ISO 3166-2",
            title_field="name",
            description_field="type",
        ),
        new_content_type(
            _PROJECT,
            "language",
            "Language",
            [
                name,
                new_field("invertedName", "Inverted name"),
                new_field("commonName", "Common name"),
                new_field("alpha3", "Alpha-3 code", required={}, regex={"pattern": "^[a-z]{3}$"}),
                new_field("alpha2", "Alpha-2 code", regex={"pattern": "^[a-z]{2}$"}),
                new_field("bibliographic", "Bibliographic code", regex={"pattern": "^[a-z]{3}$"}),
                new_field("scope", "Scope", allowedValues=_labelled_values(_SCOPES)),
                new_field("type", "Type", allowedValues=_labelled_values(_TYPES)),
                new_field("isLiving", "Living language", "boolean"),
            ],
            description="ISO 639-3",
            title_field="name",
            description_field="invertedName",
        ),
        new_content_type(
            _PROJECT,
            "currency",
            "Currency",
            [
                name,
                new_field("alpha3", "Alphabetic code", required={}, regex={"pattern": "^[A-Z]{3}$"}),
                new_field("numeric", "Numeric code", required={}, regex={"pattern": "^[0-9]{3}$"}),
            ],
            description="ISO 4217",
            title_field="name",
            description_field="alpha3",
        ),
    ]


def _labelled_values(labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "labeledValues": [{"value": value, "label": {_PRIMARY: label}} for value, label in labels.items()]
    }


@cache
def _documents() -> tuple[Document, ...]:
    """Return all entries. Documents are immutable, so all catalogues of a process can share them."""
    pycountry = _import_pycountry()
    translate = _translator(str(pycountry.LOCALES_DIR))
    content_types = {item["id"]: item for item in _content_types()}
    items = list(_items(pycountry))
    variations = {
        (item.kind, item.code, language): values
        for item in items
        for language, values in _variations(item, translate)
    }
    documents: list[Document] = []
    for item in items:
        languages = [code for code in (_PRIMARY, *_TRANSLATED) if (item.kind, item.code, code) in variations]
        for language in languages:
            values = variations[item.kind, item.code, language]
            fields = {
                name: _resolve(value, language, variations) if isinstance(value, _Reference) else value
                for name, value in values.items()
            }
            documents += _versions(item, content_types[item.kind], fields, language, languages)
    return tuple(documents)


def _resolve(
    target: _Reference, language: str, variations: Mapping[tuple[str, str, str], Any]
) -> dict[str, Any]:
    exists = (target.kind, target.code, language) in variations
    return link(guid(target.kind, target.code), target.kind, language if exists else _PRIMARY)


def _import_pycountry() -> ModuleType:
    try:
        import pycountry
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The sandbox's ISO lists need pycountry: pip install 'airflow-provider-contensis[sandbox]'",
            name="pycountry",
        ) from error
    return pycountry


def _items(pycountry: ModuleType) -> Iterator[_Item]:
    subdivisions = [dict(line) for line in pycountry.subdivisions]
    sizes = Counter(line["country_code"] for line in subdivisions)
    for line in map(dict, pycountry.countries):
        yield _Item(
            "country",
            line["alpha_2"],
            "countries",
            {
                "name": line["name"],
                "officialName": line.get("official_name"),
                "commonName": line.get("common_name"),
                "alpha2": line["alpha_2"],
                "alpha3": line["alpha_3"],
                "numeric": line["numeric"],
                "flag": line["flag"],
                "subdivisionCount": sizes[line["alpha_2"]],
            },
            ("name", "officialName", "commonName"),
            "officialName",
        )
    for line in subdivisions:
        parent = line["parent_code"]
        yield _Item(
            "subdivision",
            line["code"],
            f"subdivisions {line['country_code']}",
            {
                "name": line["name"],
                "code": line["code"],
                "type": line["type"],
                "country": _Reference("country", line["country_code"]),
                "parent": _Reference("subdivision", parent) if parent else None,
            },
            ("name", "type"),
            "type",
        )
    for number, line in enumerate(map(dict, pycountry.languages)):
        yield _Item(
            "language",
            line["alpha_3"],
            f"languages {number // _LANGUAGES_PER_IMPORT}",
            {
                "name": line["name"],
                "invertedName": line.get("inverted_name"),
                "commonName": line.get("common_name"),
                "alpha3": line["alpha_3"],
                "alpha2": line.get("alpha_2"),
                "bibliographic": line.get("bibliographic"),
                "scope": line["scope"],
                "type": line["type"],
                "isLiving": line["type"] == "L",
            },
            ("name", "invertedName", "commonName"),
            "invertedName",
        )
    for line in map(dict, pycountry.currencies):
        yield _Item(
            "currency",
            line["alpha_3"],
            "currencies",
            {"name": line["name"], "alpha3": line["alpha_3"], "numeric": line["numeric"]},
            ("name",),
            "alpha3",
        )


def _translator(locales: str) -> Callable[[str, str, str], str]:
    """Return a function of language, content type and text; it returns "" if there is no translation."""
    catalogues = {}
    for language in _TRANSLATED:
        for kind, domain in _DOMAINS.items():
            catalogue = gettext.translation(domain, locales, [language])
            catalogue.add_fallback(_Untranslated())
            catalogues[language, kind] = catalogue
    return lambda language, kind, text: catalogues[language, kind].gettext(text)


def _variations(
    item: _Item, translate: Callable[[str, str, str], str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield English and each language that translates the item's name, with the fields in it."""
    yield _PRIMARY, item.english
    for language in _TRANSLATED:
        if translate(language, item.kind, item.english["name"]):
            translated = {
                field: translate(language, item.kind, item.english[field]) or item.english[field]
                for field in item.localised
                if item.english[field]
            }
            yield language, {**item.english, **translated}


def _versions(
    item: _Item,
    content_type: Mapping[str, Any],
    fields: Mapping[str, Any],
    language: str,
    languages: Iterable[str],
) -> list[Document]:
    """Return one variation in its latest version, its published version, or both.

    All entries of an import are created in the same second. Four in ten are edited later, one in forty was
    never published, and one in thirty has a newer draft.
    """
    second = _import_second(item.import_name, language)
    draw = Draw(f"{item.kind} {item.code} {language}")
    author = _AUTHORS[draw.below(len(_AUTHORS))]
    edited = draw.below(10) < 4
    saved = second + timedelta(seconds=60 + draw.below(_EDIT_SECONDS)) if edited else second
    created = timestamp(second, _fraction(draw))
    modified = timestamp(saved, _fraction(draw)) if edited else created
    published = timestamp(saved + timedelta(seconds=1 + draw.below(4)), _fraction(draw))
    fate = draw.below(120)
    never_published, newer_draft = fate < 3, fate in range(3, 7)

    def version(
        number: str, modified: str, published: str | None, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        return new_entry(
            _PROJECT,
            content_type,
            fields,
            entry_id=item.entry_id,
            language=language,
            available_languages=languages,
            title=fields["name"],
            description=fields[item.description_field],
            slug=item.code.lower(),
            author=author,
            created=created,
            modified=modified,
            published=published,
            version=number,
            is_published=not never_published,
        )

    if never_published:
        return [Document.of(version("0.1", modified, None, fields), "latest")]
    complete = Document.of(version("1.0", modified, published, fields), "published")
    if not newer_draft:
        return [complete, complete.with_status("latest")]
    later = timestamp(saved + timedelta(days=1 + draw.below(60)), _fraction(draw))
    changed = {**fields, "name": f"{fields['name']} (under review)"}
    return [complete, Document.of(version("1.1", later, published, changed), "latest")]


@cache
def _import_second(import_name: str, language: str) -> datetime:
    return _FIRST_IMPORT + timedelta(seconds=Draw(f"{import_name} {language}").below(_IMPORT_SECONDS))


def _fraction(draw: Draw) -> int:
    """Return a fraction of a second in units of 100 nanoseconds; one in twelve is whole milliseconds."""
    ticks = draw.below(10_000_000)
    return ticks // 10_000 * 10_000 if draw.below(12) == 0 else ticks
