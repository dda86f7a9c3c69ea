"""The connection form for Airflow 2.11 to 3.1, built from the provider's metadata.

Airflow 3.2 and later read the form from the metadata itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from collections.abc import Mapping


def widgets() -> dict[str, Any]:
    """Return the form's custom fields."""
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import IntegerField, StringField
    from wtforms.validators import Optional

    def field(spec: Mapping[str, Any]) -> Any:
        kind = IntegerField if "integer" in spec["schema"]["type"] else StringField
        return kind(
            lazy_gettext(spec["label"]),
            widget=BS3TextFieldWidget(),
            validators=[Optional()],
            description=spec["description"],
            default=spec["schema"].get("default"),
        )

    return {name: field(spec) for name, spec in _form()["conn-fields"].items()}


def behaviour() -> dict[str, Any]:
    """Return the form's labels, placeholders and hidden fields."""
    spec = _form()["ui-field-behaviour"]
    return {
        "hidden_fields": spec["hidden-fields"],
        "relabeling": spec["relabeling"],
        "placeholders": spec["placeholders"],
    }


def _form() -> dict[str, Any]:
    form: dict[str, Any] = get_provider_info()["connection-types"][0]
    return form
