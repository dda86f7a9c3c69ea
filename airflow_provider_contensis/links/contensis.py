"""The link from a task to the CMS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

URL_KEY = "contensis_url"


class ContensisLink(BaseOperatorLink):
    """Opens the Contensis environment that a task read from.

    A project's address in the CMS is not documented, so the link opens the environment.
    """

    name = "Contensis"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the environment's URL; empty if the task has not started to read."""
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(ti_key=ti_key, key=URL_KEY) or ""
