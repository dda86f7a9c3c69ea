"""What Airflow reads to learn of this provider. Imported by every `airflow` command: keep it light."""

from __future__ import annotations

from typing import Any

from airflow_provider_contensis import __version__


def get_provider_info() -> dict[str, Any]:
    """Return this provider's description.

    The connection form stands here once: Airflow 3.2 and later read it from here,
    earlier versions ask the hook, which builds the same form from it.
    """
    return {
        "package-name": "airflow-provider-contensis",
        "name": "Contensis",
        "description": "Entries of the `Contensis CMS <https://www.contensis.com/>`__, complete and exact.",
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
                        "port": "443 (Airflow 3.3.1 and 3.3.2 can't test without a port)",
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
                            "The API id of the project that tasks use unless they name one, such as website."
                        ),
                        "schema": {"type": ["string", "null"]},
                    },
                    "scopes": {
                        "label": "Scopes",
                        "description": (
                            "What the access token shall allow, separated by blanks or line breaks. "
                            "Reading needs Entry_Read ContentType_Read Project_Read, and no others."
                        ),
                        "schema": {
                            "type": ["string", "null"],
                            # A text input would drop the line breaks of what is pasted into it.
                            "format": "multiline",
                            "default": "Entry_Read ContentType_Read Project_Read",
                        },
                    },
                    "timeout": {
                        "label": "Timeout (seconds)",
                        "description": "How long one request may wait for an answer.",
                        "schema": {"type": ["integer", "null"], "minimum": 1, "default": 60},
                    },
                },
            }
        ],
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
                    "airflow_provider_contensis.operators.content_types",
                    "airflow_provider_contensis.operators.entries",
                ],
            }
        ],
    }
