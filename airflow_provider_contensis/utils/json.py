"""Reading JSON that somebody else wrote."""

from __future__ import annotations

import json
from typing import Any

import msgspec

# Decode one level: what is inside stays the bytes that were served.
OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
# Raised by msgspec for JSON of another shape; text that is not UTF-8 is a ValueError.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def loads_json(text: str | bytes | memoryview) -> Any:
    """Return the value of a JSON text.

    :raises ValueError: the text is not JSON, or is nested too deeply to read.
    """
    try:
        return json.loads(bytes(text) if isinstance(text, memoryview) else text)
    except RecursionError:
        raise ValueError("The JSON is nested too deeply.") from None


def is_json_serializable(value: object) -> bool:
    """Return whether a value can be written as JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
