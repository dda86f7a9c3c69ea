"""Chance that falls the same way every time."""

from __future__ import annotations

from hashlib import blake2b


class Draw:
    """A few draws that depend on nothing but a name.

    Unlike a seeded generator it costs little to make, so each entry can have its own: entries then stay the
    same whatever is added before them.

    :param name: equal names give equal draws.
    """

    def __init__(self, name: str) -> None:
        self._rest = int.from_bytes(blake2b(name.encode()).digest())

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1; draws of one name must not multiply to more than 2**512."""
        self._rest, value = divmod(self._rest, limit)
        return value
