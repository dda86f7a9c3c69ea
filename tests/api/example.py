"""An invented environment and its credentials."""

from __future__ import annotations

from airflow_provider_contensis.api.token_request import Credentials

ROOT = "https://cms-example.cloud.contensis.com"
TOKEN_URL = f"{ROOT}/authenticate/connect/token"
SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0-ffeeddccbbaa99887766554433221100-00112233445566778899aabbccddeeff"
CREDENTIALS = Credentials(
    ROOT, "0b6f3c52-8d0a-4d5e-9c57-2f1f6f0c1a10", SECRET, ("Entry_Read", "ContentType_Read", "Project_Read")
)
