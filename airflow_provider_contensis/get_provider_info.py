"""The provider's metadata. Every `airflow` command imports this module: keep it light."""

from __future__ import annotations

from typing import Any

from airflow_provider_contensis import __version__

_ASSET_URI = {
    "schemes": ["contensis"],
    "handler": "airflow_provider_contensis.lineage.sanitize_uri",
    "factory": "airflow_provider_contensis.lineage.create_asset",
    "to_openlineage_converter": "airflow_provider_contensis.lineage.convert_asset_to_openlineage",
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata.

    The connection form is defined here once: Airflow 3.2 and later read it from here; earlier versions ask
    the hook, which builds the same form from it.
    """
    return {
        "package-name": "airflow-provider-contensis",
        "name": "Contensis",
        # Airflow takes out the marks of a link, and makes one of an address up to the next space.
        "description": "Complete and exact exports of the Contensis CMS: https://www.contensis.com/",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Contensis",
                "external-doc-url": "https://www.contensis.com/",
                "tags": ["service"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "contensis",
                "hook-class-name": "airflow_provider_contensis.hooks.contensis.ContensisHook",
                "hook-name": "Contensis",
                "ui-field-behaviour": {
                    # Airflow 3.3.1 and 3.3.2 need host and port visible to test a saved connection.
                    "hidden-fields": ["schema"],
                    "relabeling": {
                        "host": "Contensis URL or alias",
                        "login": "Client ID",
                        "port": "Port",
                        "password": "Shared secret",
                    },
                    "placeholders": {
                        "host": "https://cms-example.cloud.contensis.com, or example",
                        "port": "443 (Airflow 3.3.1 and 3.3.2 cannot test without a port)",
                        "login": "the API key's client id",
                        "password": "the API key's shared secret",
                        "project_id": "website",
                        "scopes": "Entry_Read ContentType_Read Project_Read",
                        "timeout": "60",
                    },
                },
                "conn-fields": {
                    "project_id": {
                        "label": "Project",
                        "description": (
                            "API id of the default project, such as website. Tasks can set another one."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "scopes": {
                        "label": "Scopes",
                        "description": (
                            "OAuth scopes to request, separated by spaces or line breaks. "
                            "Reading needs Entry_Read, ContentType_Read and Project_Read only."
                        ),
                        "schema": {
                            "type": ["string", "null"],
                            # A single-line input would drop the line breaks of a pasted list.
                            "format": "multiline",
                            "default": "Entry_Read ContentType_Read Project_Read",
                        },
                    },
                    "timeout": {
                        "label": "Timeout (seconds)",
                        "description": "How long to wait for an answer to one request.",
                        "schema": {"type": ["integer", "null"], "minimum": 1, "default": 60},
                    },
                },
            }
        ],
        # Airflow 2.11 calls assets datasets.
        "asset-uris": [dict(_ASSET_URI)],
        "dataset-uris": [dict(_ASSET_URI)],
        "cli": ["airflow_provider_contensis.cli.get_contensis_cli_commands"],
        "extra-links": ["airflow_provider_contensis.links.contensis.ContensisLink"],
        "hooks": [
            {
                "integration-name": "Contensis",
                "python-modules": ["airflow_provider_contensis.hooks.contensis"],
            }
        ],
        "operators": [
            {
                "integration-name": "Contensis",
                "python-modules": [
                    "airflow_provider_contensis.operators.assets",
                    "airflow_provider_contensis.operators.changes",
                    "airflow_provider_contensis.operators.content_types",
                    "airflow_provider_contensis.operators.entries",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Contensis",
                "python-modules": ["airflow_provider_contensis.sensors.entries"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Contensis",
                "python-modules": ["airflow_provider_contensis.triggers.entries"],
            }
        ],
        "transfers": [
            {
                "source-integration-name": "Contensis",
                "target-integration-name": "PostgreSQL",
                "python-module": "airflow_provider_contensis.transfers.contensis_to_postgres",
            }
        ],
    }
