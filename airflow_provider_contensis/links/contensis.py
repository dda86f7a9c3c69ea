"""The link from a task to the CMS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

URL_KEY = "contensis_url"


class ContensisLink(BaseOperatorLink):
    """Opens the Contensis environment that a task has read from.

    The address of a single project in the CMS is not documented, so it opens the environment.
    """

    name = "Contensis"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's
        """Return the environment's URL; empty where the task has not come so far."""
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(ti_key=ti_key, key=URL_KEY) or ""
