"""What the searches that a sandbox receives ask for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Request

# Windows: requests at a time, what is read ahead of the one that is written, and entries without a time.
IN_FLIGHT = 4 + 4 + 1


def window_of(request: Request) -> str | None:
    """Return the window of which a page is asked for; None if it is something else that is asked for."""
    if request.kind != "search":
        return None
    text = request.body or request.query.get("query")
    if not text:  # whoever asked was killed meanwhile
        return None
    query = json.loads(text)
    if query["pageSize"] == 1:  # it measures
        return None
    # The second page of a window begins elsewhere, but ends where the first one does.
    ends = [clause for clause in query["where"] if "greaterThanOrEqualTo" not in clause]
    return json.dumps(ends, sort_keys=True)
