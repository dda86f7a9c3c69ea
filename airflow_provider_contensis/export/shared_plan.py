"""A plan that several workers share: what is read, and in which parts. It reaches them as JSON."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, Self, TypedDict

from airflow_provider_contensis import __version__
from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.destination import Destination
from airflow_provider_contensis.export.formats.base import FormatOptions
from airflow_provider_contensis.export.model import EntryQuery, Plan, Window
from airflow_provider_contensis.export.request import ExportRequest, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.export.model import Kinds

_PLAN_VERSION = 1
# When it was made, and the beginning of its hash: later plans sort behind earlier ones.
_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}")


class PartAddress(TypedDict):
    """Where a worker finds its part of a plan: all that goes through an XCom."""

    destination: str
    plan: str
    part: int
    parts: int
    name: str


@dataclass(frozen=True)
class Part:
    """What one worker reads.

    :param windows: disjoint, in order.
    :param expected: about how many entries they hold.
    """

    windows: tuple[Window, ...]
    expected: int

    @property
    def name(self) -> str:
        """Where it begins, for people."""
        window = self.windows[0]
        ids = window.content_type_ids
        name = f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else ids[0] if ids else "everything"
        if window.language and ids:
            name += f" {window.language}"
        if window.created_from:
            name += f" from {window.created_from[:7]}"
        return name


@dataclass(frozen=True)
class SharedPlan:
    """A plan that several workers share.

    :param request: the export.
    :param project_id: the project to read from.
    :param fingerprint: of who asks whom for what.
    :param begun: when planning began, in seconds since 1970.
    :param requests: what planning took.
    :param plan: all that is read.
    :param parts: disjoint, and together the plan.
    :param name: its folder in the destination, without a slash; empty until it has been written.
    :param digest: of what was written.
    """

    request: ExportRequest
    project_id: str
    fingerprint: str
    begun: float
    requests: int
    plan: Plan
    parts: tuple[Part, ...]
    name: str = ""
    digest: str = ""

    def dump(self) -> tuple[Self, bytes]:
        """Return the plan with its name, and its JSON."""
        value = {
            "plan_version": _PLAN_VERSION,
            "written_by": f"airflow-provider-contensis {__version__}",
            "project_id": self.project_id,
            "fingerprint": self.fingerprint,
            "begun": self.begun,
            "requests": self.requests,
            "request": asdict(self.request),
            "plan": self.plan,
            "parts": self.parts,
        }
        content = json.dumps(value, default=vars).encode()
        digest = hashlib.sha256(content).hexdigest()
        time = f"{datetime.fromtimestamp(self.begun, UTC):%Y%m%dT%H%M%S.%f}"[:-3]
        name = f"{time}Z-{digest[:8]}"
        return replace(self, name=name, digest=digest), content

    @classmethod
    def load(cls, name: str, content: bytes) -> Self:
        """Return the plan that `dump` made JSON of.

        :raises ExportError: it is another one, or another version of this provider wrote it.
        """
        digest = hashlib.sha256(content).hexdigest()
        value = json.loads(content) if name.endswith(digest[:8]) else {}
        if value.get("plan_version") != _PLAN_VERSION:
            raise ExportError(
                f"Plan {name} was changed after it was written, or another version of the provider wrote "
                "it: clear the task that makes the plan."
            )
        return cls(
            request=_request(value["request"]),
            project_id=value["project_id"],
            fingerprint=value["fingerprint"],
            begun=value["begun"],
            requests=value["requests"],
            plan=Plan.from_json(value["plan"]),
            parts=tuple(
                Part(tuple(map(Window.from_json, part["windows"])), part["expected"])
                for part in value["parts"]
            ),
            name=name,
            digest=digest,
        )

    def part(self, number: int) -> Plan:
        """Return what is read of a part.

        :param number: from 1.
        """
        return replace(self.plan, part=self.parts[number - 1].windows)

    def addresses(self) -> list[PartAddress]:
        """Return where workers find their parts."""
        return [
            {
                "destination": self.request.destination.url,
                "plan": self.name,
                "part": number,
                "parts": len(self.parts),
                "name": f"part {number} of {len(self.parts)}: {part.name}",
            }
            for number, part in enumerate(self.parts, 1)
        ]


def is_plan_name(name: str) -> bool:
    """Return whether a folder's name is that of a plan."""
    return _NAME.fullmatch(name) is not None


def _request(value: dict[str, Any]) -> ExportRequest:
    query, fields = value["query"], value["fields"]
    lists = ("content_type_ids", "languages", "where")
    query |= {name: tuple(query[name]) for name in lists if query[name] is not None}
    return ExportRequest(
        query=EntryQuery(**query),
        destination=Destination(**value["destination"]),
        fields=None if fields is None else tuple(fields),
        options=ReadOptions(**value["options"]),
        on_empty=value["on_empty"],
        start_over=value["start_over"],
        format_options=FormatOptions(**value["format_options"]),
    )


def check_partition(whole: Window, windows: Sequence[Window]) -> None:
    """Check that windows are disjoint and together the whole, but for content types that are not listed.

    :raises ExportError: they are not.
    """
    if list(windows) == [whole]:
        return
    kinds = [kind for window in windows if window.is_whole for kind in product(*window.kinds)]
    ranges: dict[Kinds, list[Window]] = {}
    for window in windows:
        if not window.is_whole:
            ranges.setdefault(window.kinds, []).append(window)
    for slice_, some in ranges.items():
        kinds += product(*slice_)
        if not _are_a_slice(some):
            raise ExportError(f"{some[0]}: parts overlap, or something is missing between them.")
    wanted = set(product(*whole.kinds))
    if len(kinds) != len(wanted) or set(kinds) != wanted:
        raise ExportError(f"{whole}: parts overlap, or something is missing between them.")


def _are_a_slice(ranges: Sequence[Window]) -> bool:
    """Return whether ranges of one slice are disjoint, and together the slice."""
    dated = [window for window in ranges if not window.undated]
    dated.sort(key=lambda window: window.created_from or "")
    return (
        len(ranges) == len(dated) + 1
        and not any(window.id_prefix or window.other_ids for window in ranges)
        and dated[0].created_from is None
        and dated[-1].created_to is None
        and all(one.created_to and one.created_to == next_.created_from for one, next_ in pairwise(dated))
    )
