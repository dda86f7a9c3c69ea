r"""Lone surrogates: JSON may escape half of a surrogate pair (`\ud83d`), which is no character of its own.

Entries pass them on as served. To look into an entry, its JSON is decoded with them hidden or replaced.
"""

from __future__ import annotations

import re

# An escape: a surrogate pair, one character, or a letter. Whole escapes, or `\\ud83d` would look like one.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([0-9a-fA-F]{4})|.)", re.DOTALL
)
_LONE = re.compile(b"[dD][89a-fA-F]")
# As long as the escape, and allowed within a JSON text, where nobody would write it.
_HIDDEN = re.compile(rb"\x7f([dD][89a-fA-F][0-9a-fA-F]{2})\x7f")


def hide(json: bytes) -> bytes:
    """Return JSON with its lone surrogates hidden, of the same length.

    :raises ValueError: it already contains what they would be hidden as.
    """
    if _HIDDEN.search(json):
        raise ValueError("The JSON contains control characters that look like hidden surrogates.")
    return _ESCAPE.sub(lambda match: b"\x7f%b\x7f" % match[1] if _is_lone(match[1]) else match[0], json)


def reveal(json: bytes) -> bytes:
    """Return JSON with what `hide` has hidden."""
    return _HIDDEN.sub(rb"\\u\1", json)


def replace(json: bytes) -> bytes:
    """Return JSON with U+FFFD in place of each lone surrogate."""
    return _ESCAPE.sub(lambda match: rb"\ufffd" if _is_lone(match[1]) else match[0], json)


def _is_lone(digits: bytes | None) -> bool:
    return digits is not None and bool(_LONE.match(digits))
