"""A stand-in for Elasticsearch and OpenSearch, which no Python package brings.

It answers the few requests that an example sends, as their documentation says.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_Answer = tuple[int, Any]


class SearchServer(ThreadingHTTPServer):
    """A cluster in memory.

    :param fail_bulk_at: the number of the bulk request, from 1 on, that fails halfway; 0 for none.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.indexes: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, str] = {}
        self.bulk_requests = 0
        self.fail_bulk_at = 0

    def documents(self, alias: str) -> dict[str, bytes]:
        """Return the sources that a search of an alias could find, by id."""
        found: dict[str, bytes] = self.indexes[self.aliases[alias]]["documents"]
        return found

    def answer(self, method: str, path: str, kind: str, body: bytes) -> _Answer:
        """Return the status and the answer of a request."""
        match method, path.strip("/").split("/"):
            case "GET", ["_alias", alias]:
                name = self.aliases.get(alias)
                return (200, {name: {"aliases": {alias: {}}}}) if name else (404, {"status": 404})
            case "POST", ["_aliases"]:
                for [(action, what)] in (each.items() for each in json.loads(body)["actions"]):
                    if action == "add":
                        self.aliases[what["alias"]] = what["index"]
                    else:
                        assert action == "remove_index"
                        del self.indexes[what["index"]]
                return 200, {"acknowledged": True}
            case "PUT", [name]:
                if name in self.indexes:
                    return 400, {"error": "resource_already_exists_exception"}
                self.indexes[name] = {"documents": {}, "mappings": json.loads(body)["mappings"]}
                return 200, {"acknowledged": True}
            case _, [name, *_] if name not in self.indexes:
                return 404, {"error": "index_not_found_exception"}
            case "DELETE", [name]:
                del self.indexes[name]
                return 200, {"acknowledged": True}
            case "GET", [name, "_mapping"]:
                return 200, {name: {"mappings": self.indexes[name]["mappings"]}}
            case "PUT", [name, "_mapping"]:
                self.indexes[name]["mappings"].update(json.loads(body))
                return 200, {"acknowledged": True}
            case "POST", [name, "_bulk"]:
                return self._bulk(self.indexes[name]["documents"], kind, body)
        return 405, {}

    def _bulk(self, documents: dict[str, bytes], kind: str, body: bytes) -> _Answer:
        if kind != "application/x-ndjson":
            return 406, {"error": "Content-Type is not supported"}
        if not body.endswith(b"\n"):
            return 400, {"error": "The bulk request must be terminated by a newline [\\n]"}
        self.bulk_requests += 1
        lines = iter(body.splitlines())
        items: list[dict[str, Any]] = []
        for line in lines:
            if self.bulk_requests == self.fail_bulk_at and len(items) == 5:
                return 503, {}
            [(action, meta)] = json.loads(line).items()
            outcome: dict[str, Any] = {"_id": meta["_id"], "status": 200}
            if action == "index":
                source = next(lines)
                assert isinstance(json.loads(source), dict)
                documents[meta["_id"]] = source
            else:
                assert action == "delete"
                if documents.pop(meta["_id"], None) is None:
                    outcome |= {"status": 404, "result": "not_found"}
            items.append({action: outcome})
        return 200, {"errors": False, "items": items}


class _Handler(BaseHTTPRequestHandler):
    server: SearchServer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer = self.server.answer(self.command, self.path, self.headers["Content-Type"], body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server names it
        pass


@contextmanager
def search_server() -> Iterator[SearchServer]:
    """Run a cluster in memory."""
    with SearchServer() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
