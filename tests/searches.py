"""The windows that the searches of an export read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Request

# Windows: concurrent requests, those read ahead of the writer, and the one for entries without a time.
IN_FLIGHT = 4 + 4 + 1


def window_of(request: Request) -> str | None:
    """Return the window whose page a request reads; None for any other request."""
    if request.kind != "search":
        return None
    text = request.body or request.query.get("query")
    if not text:  # the client was killed meanwhile
        return None
    query = json.loads(text)
    if query["pageSize"] == 1:  # a count
        return None
    # Later pages of a window start elsewhere, but end where the first one does.
    ends = [clause for clause in query["where"] if "greaterThanOrEqualTo" not in clause]
    return json.dumps(ends, sort_keys=True)
