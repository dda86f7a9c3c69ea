"""The command `airflow contensis doctor`, where Airflow lets providers add commands (3.2 and later).

Every `airflow` command imports this module: keep it light.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

if TYPE_CHECKING:
    import argparse


def get_contensis_cli_commands() -> list[GroupCommand]:
    """Return the commands, with the arguments of `python -m airflow_provider_contensis.doctor`."""
    specs: dict[str, dict[str, Any]] = {
        "--conn-id": {"help": "the Airflow connection", "default": "contensis_default"},
        "--project": {"help": "the project (default: the connection's)"},
        "--json": {"help": "print the report as JSON, for an issue", "action": "store_true"},
    }
    arguments = [
        Arg((flag,), **spec)  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        for flag, spec in specs.items()
    ]
    doctor = ActionCommand(
        name="doctor",
        help="Check that a Contensis environment behaves as exports assume",
        func=_doctor,
        args=arguments,
    )
    return [GroupCommand(name="contensis", help="Commands for Contensis", subcommands=(doctor,))]


def _doctor(options: argparse.Namespace) -> NoReturn:
    from airflow_provider_contensis.doctor.__main__ import run

    options.url = None
    sys.exit(run(options))
