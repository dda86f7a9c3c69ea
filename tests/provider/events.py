"""The events of a task's outlet, as Airflow's context has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Events:
    """Finds the event of one asset; in Airflow 3.0, assets have no hash.

    :param asset: the asset.
    """

    def __init__(self, asset: Any) -> None:
        self._asset = asset
        self.event = SimpleNamespace(extra={})

    def __getitem__(self, key: Any) -> SimpleNamespace:
        """Return the event of an asset."""
        if key != self._asset:
            raise KeyError(key)
        return self.event
