"""A local Contensis environment over real HTTP, for the demo, our own tests and tests of your DAGs.

It stands in for the service, so it shares no code with the client under test.

    with Sandbox() as sandbox:
        os.environ["AIRFLOW_CONN_CONTENSIS_DEFAULT"] = sandbox.connection_json
"""

from airflow_provider_contensis.sandbox.catalogue import Catalogue
from airflow_provider_contensis.sandbox.content import load_catalogue, synthetic_catalogue
from airflow_provider_contensis.sandbox.editors import EDITS, Editors
from airflow_provider_contensis.sandbox.faults import FAULTS, FILE_FAULTS, Mixture, together
from airflow_provider_contensis.sandbox.identity import ExpiresIn
from airflow_provider_contensis.sandbox.iso import iso_catalogue
from airflow_provider_contensis.sandbox.messages import Faults, Record, Request, Response
from airflow_provider_contensis.sandbox.quirks import QUIRKS
from airflow_provider_contensis.sandbox.server import Sandbox
from airflow_provider_contensis.sandbox.store import Change

__all__ = [
    "EDITS",
    "FAULTS",
    "FILE_FAULTS",
    "QUIRKS",
    "Catalogue",
    "Change",
    "Editors",
    "ExpiresIn",
    "Faults",
    "Mixture",
    "Record",
    "Request",
    "Response",
    "Sandbox",
    "iso_catalogue",
    "load_catalogue",
    "synthetic_catalogue",
    "together",
]
