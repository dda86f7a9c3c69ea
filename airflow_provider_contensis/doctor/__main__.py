"""Run the doctor from a shell: `python -m airflow_provider_contensis.doctor`."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.environment import root_url
from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.connection import DEFAULT_SCOPES
from airflow_provider_contensis.doctor import examine
from airflow_provider_contensis.doctor.report import as_text
from airflow_provider_contensis.exceptions import ConfigurationError, ContensisError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECRET_VARIABLE = "CONTENSIS_CLIENT_SECRET"  # noqa: S105 - the name of a variable
# A report in minutes is better than one that waits for the end of an outage.
_RETRY = RetryPolicy(total=60.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine an environment, and print the report.

    :param arguments: command-line arguments; None means `sys.argv`.
    :return: 0 if no check fails, 1 if one does, 2 if nothing could be checked.
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_contensis.doctor",
        description="Check that a Contensis environment behaves as exports assume. It only reads.",
    )
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the doctor's arguments to a parser."""
    parser.add_argument(
        "--conn-id",
        default="contensis_default",
        help="the Airflow connection (default: %(default)s); not used with --url",
    )
    parser.add_argument("--url", help="the URL or alias of the environment, without Airflow")
    parser.add_argument(
        "--client-id", help=f"the API key's client id, with --url; the secret comes from {_SECRET_VARIABLE}"
    )
    parser.add_argument("--project", help="the project (default: the connection's)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, for an issue")


def run(options: argparse.Namespace) -> int:
    """Examine the environment that the arguments name; see `main`."""
    try:
        client, project_id = _by_url(options) if options.url else _by_connection(options)
        with closing(client):
            examination = examine(client, project_id, on_progress=_show_progress)
    except ContensisError as error:
        print(f"Nothing could be checked: {error}", file=sys.stderr)
        return 2
    print(json.dumps(examination.as_json(), indent=1) if options.json else as_text(examination))
    return 1 if examination.failed else 0


def _by_url(options: argparse.Namespace) -> tuple[ContensisClient, str]:
    if not options.client_id or not options.project:
        raise ConfigurationError("--url needs --client-id and --project.")
    secret = os.environ.get(_SECRET_VARIABLE) or getpass.getpass("Shared secret: ")
    credentials = Credentials(root_url(options.url), options.client_id, secret, DEFAULT_SCOPES)
    return ContensisClient(credentials, retry=_RETRY), options.project


def _by_connection(options: argparse.Namespace) -> tuple[ContensisClient, str]:
    from airflow_provider_contensis.hooks.contensis import ContensisHook

    hook = ContensisHook(options.conn_id, project_id=options.project)
    try:
        return hook.client, hook.project_id
    except ContensisError:
        raise
    except Exception as error:  # noqa: BLE001 - Airflow's own class varies with its version
        raise ConfigurationError(
            f"The connection {options.conn_id!r} could not be read: {type(error).__name__}."
        ) from None


def _show_progress(number: int, total: int, claim: str) -> None:
    print(f"[{number}/{total}] {claim}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
