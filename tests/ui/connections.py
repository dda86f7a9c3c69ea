"""The page of Airflow that lists connections."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playwright.sync_api import Locator, Page

LABELS = {
    "host": "Contensis URL or alias",
    "login": "Client ID",
    "password": "Shared secret",
    "port": "Port",
}
CONN_ID = "contensis_default"
RESULT = re.compile("Test Connection|Bad Request")


class Connections:
    """The list of connections, and the form and the Test button of its only connection.

    :param page: a browser page that may use Airflow.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.form = page.get_by_role("dialog")
        self._row = page.get_by_role("row").filter(has_text=CONN_ID)

    def open(self) -> None:
        """Load the page again; messages of earlier tests are gone."""
        self.page.goto("/connections")

    def begin(self) -> None:
        """Open the form for a new Contensis connection."""
        self.open()
        self.page.get_by_role("button", name="Add Connection").click()
        self.form.locator("input[name=connection_id]").fill(CONN_ID)
        self.form.get_by_role("combobox").click()
        self.page.keyboard.type("Contensis")
        self.page.get_by_role("option", name="Contensis", exact=True).click()

    def field(self, name: str) -> Locator:
        """Return a field of the form by its name in the JSON of a connection."""
        return self.form.get_by_label(LABELS[name])

    def extra_field(self, name: str) -> Locator:
        return self.form.locator(f"[name=element_{name}]")

    def expand_extra_fields(self) -> None:
        self.form.get_by_role("button", name="Extra Fields", exact=True).click()

    def save(self) -> None:
        self.form.get_by_role("button", name="Save").click()
        self.form.wait_for(state="hidden")

    def add(self, connection: Mapping[str, Any]) -> None:
        """Add a connection, given as JSON; other fields of the form stay as they are."""
        self.begin()
        for name in LABELS.keys() & connection.keys():
            self.field(name).fill(str(connection[name]))
        self.expand_extra_fields()
        for name, value in connection["extra"].items():
            self.extra_field(name).fill(str(value))
        self.save()

    def edit(self, name: str, value: object) -> None:
        """Change one field of the connection."""
        self._row.get_by_role("button", name="Edit Connection").click()
        self.field(name).fill(str(value))
        self.save()

    def press_test(self) -> Locator:
        """Press the Test button; return the toast with the result."""
        self._row.get_by_role("button", name="Test Connection").click()
        toast = self.page.locator("[data-scope=toast][data-part=root]").filter(has_text=RESULT)
        toast.hover()  # it stays while the pointer is on it
        return toast

    def delete(self) -> None:
        """Delete the connection, if there is one."""
        self.page.request.delete(f"/api/v2/connections/{CONN_ID}")
