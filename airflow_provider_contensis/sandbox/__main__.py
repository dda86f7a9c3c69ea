"""Run a sandbox from a shell: `python -m airflow_provider_contensis.sandbox`."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_contensis.sandbox.content import load_catalogue, synthetic_catalogue
from airflow_provider_contensis.sandbox.editors import Editors
from airflow_provider_contensis.sandbox.faults import FAULTS, FILE_FAULTS, Mixture, together
from airflow_provider_contensis.sandbox.iso import iso_catalogue
from airflow_provider_contensis.sandbox.quirks import QUIRKS
from airflow_provider_contensis.sandbox.server import CLIENT_ID, CLIENT_SECRET, Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.sandbox.catalogue import Catalogue

_FAULTS = (*FAULTS, *FILE_FAULTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM.

    :param arguments: command-line arguments; None means `sys.argv`.
    :returns: the exit status.
    """
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    try:
        catalogue = _catalogue(options.content)
        catalogue.index_lag = options.index_lag
        sandbox = Sandbox(
            catalogue,
            port=options.port,
            client_id=options.client_id,
            client_secret=options.client_secret,
            token_lifetime=options.token_lifetime,
            hidden_types=options.hide,
            aggregations=not options.no_aggregations,
            quirks=options.quirk,
            latency=options.latency,
            error_rate=options.error_rate,
            faults=together(
                Editors(catalogue, options.seed, options.edits),
                Mixture(options.seed, dict(options.fault)),
            ),
            seed=options.seed,
        )
    except (ModuleNotFoundError, OSError, ValueError) as error:
        print(f"Cannot serve {options.content}: {error}", file=sys.stderr)
        return 1
    try:
        sandbox.start()
    except OSError as error:
        print(f"Cannot listen on port {options.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    with sandbox:
        print(_as_json(sandbox) if options.json else _as_text(sandbox), flush=True)
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_contensis.sandbox",
        description="Serve a local Contensis environment, for demos and tests.",
    )
    parser.add_argument("--port", type=_port, default=8765, help="0 picks a free port (default: %(default)s)")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one line of JSON: url, client_id, client_secret, project_id",
    )
    parser.add_argument(
        "--content",
        default="iso",
        metavar="iso|synthetic:N|FILE.jsonl",
        help="the ISO lists, N synthetic entries, or the entries of an export file (default: %(default)s)",
    )
    parser.add_argument(
        "--token-lifetime",
        type=_positive,
        default=3600,
        metavar="SECONDS",
        help="how long a token is valid (default: %(default)s)",
    )
    parser.add_argument(
        "--latency", type=_seconds, default=0.0, metavar="SECONDS", help="delay before each API response"
    )
    parser.add_argument(
        "--error-rate",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of API calls that get a 503, 0 to 1",
    )
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help=f"inject a fault into this share of requests, 0 to 1; repeatable; names: {', '.join(_FAULTS)}",
    )
    parser.add_argument(
        "--edits", type=_rate, default=0.0, metavar="RATE", help="edits before each response, 0 to 100"
    )
    parser.add_argument(
        "--index-lag",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="how long searches and lists do not show a change that a get by id shows",
    )
    parser.add_argument(
        "--hide",
        action="append",
        default=[],
        metavar="CONTENT_TYPE",
        help="hide a content type and its entries, as from an API key without a role for them; repeatable",
    )
    parser.add_argument(
        "--no-aggregations", action="store_true", help="ignore aggregations, as an older service might do"
    )
    parser.add_argument(
        "--quirk",
        action="append",
        default=[],
        choices=sorted(QUIRKS),
        metavar="NAME",
        help=f"switch off an assumption about the service; repeatable; names: {', '.join(QUIRKS)}",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed for errors, faults and edits (default: %(default)s)"
    )
    parser.add_argument("--client-id", default=CLIENT_ID, help="client id of the API key")
    parser.add_argument("--client-secret", default=CLIENT_SECRET, help="shared secret of the API key")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds, 0 or more")
    return seconds


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 <= rate <= 100:
        raise argparse.ArgumentTypeError("must be from 0 to 100")
    return rate


def _positive(text: str) -> float:
    seconds = _seconds(text)
    if not seconds:
        raise argparse.ArgumentTypeError("must be more than 0")
    return seconds


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return share


def _fault(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    if name not in _FAULTS:
        raise argparse.ArgumentTypeError(f"must be NAME=SHARE with NAME one of {', '.join(_FAULTS)}")
    return name, _share(share)


def _catalogue(content: str) -> Catalogue:
    if content == "iso":
        return iso_catalogue()
    name, _, count = content.partition(":")
    if name == "synthetic" and count.isdecimal():
        return synthetic_catalogue(int(count))
    if not Path(content).is_file():
        raise ValueError("expected iso, synthetic:N or the path of a file")
    return load_catalogue(content)


def _as_json(sandbox: Sandbox) -> str:
    return json.dumps(
        {
            "url": sandbox.url,
            "client_id": sandbox.client_id,
            "client_secret": sandbox.client_secret,
            "project_id": sandbox.project_id,
        }
    )


def _as_text(sandbox: Sandbox) -> str:
    catalogue = sandbox.catalogue
    entries = "1 entry" if len(catalogue) == 1 else f"{len(catalogue)} entries"
    connection = f"AIRFLOW_CONN_CONTENSIS_DEFAULT={shlex.quote(sandbox.connection_json)}"
    token_request = [
        *("curl", "--silent", f"{sandbox.url}/authenticate/connect/token"),
        *("--data", "grant_type=client_credentials"),
        *("--data-urlencode", f"client_id={sandbox.client_id}"),
        *("--data-urlencode", f"client_secret={sandbox.client_secret}"),
        *("--data-urlencode", "scope=Entry_Read ContentType_Read Project_Read"),
    ]
    return "\n".join(
        [
            f"Serving project {sandbox.project_id} at {sandbox.url}: {entries} of "
            f"{', '.join(catalogue.content_types)} in {', '.join(catalogue.project['supportedLanguages'])}",
            "",
            "Connect Airflow:",
            f"  export {connection}",
            "",
            "Request a token:",
            f"  {shlex.join(token_request)}",
            "",
            "Press Ctrl+C to stop.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
