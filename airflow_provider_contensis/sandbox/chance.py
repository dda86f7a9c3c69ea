"""Repeatable randomness."""

from __future__ import annotations

from hashlib import blake2b


class Draw:
    """A few random numbers that depend only on a seed.

    It is cheaper to create than `random.Random`, so each entry can have its own. An entry then stays the same
    whatever is added before it.

    :param seed: equal seeds give equal numbers.
    """

    def __init__(self, seed: str) -> None:
        self._state = int.from_bytes(blake2b(seed.encode()).digest())

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1.

        The seed holds 512 bits, so the limits of one seed must not multiply to more than 2**512.
        """
        self._state, value = divmod(self._state, limit)
        return value
