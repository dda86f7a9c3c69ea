"""The address of an environment, as a person writes it."""

from __future__ import annotations

import pytest

from airflow_provider_contensis.api.environment import root_url
from airflow_provider_contensis.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("https://cms-example.cloud.contensis.com", None, "https://cms-example.cloud.contensis.com"),
        ("https://cms-example.cloud.contensis.com///", 0, "https://cms-example.cloud.contensis.com"),
        ("  https://cms-example.cloud.contensis.com ", "", "https://cms-example.cloud.contensis.com"),
        ("HTTPS://CMS-Example.cloud.contensis.com", 443, "https://cms-example.cloud.contensis.com"),
        ("cms-example.cloud.contensis.com", None, "https://cms-example.cloud.contensis.com"),
        ("example", None, "https://cms-example.cloud.contensis.com"),
        (" Example ", " ", "https://cms-example.cloud.contensis.com"),
        ("cms-example", None, "https://cms-example.cloud.contensis.com"),
        ("example", 443, "https://cms-example.cloud.contensis.com"),
        ("https://cms.example.org:8443", None, "https://cms.example.org:8443"),
        ("https://cms.example.org", 8443, "https://cms.example.org:8443"),
        ("https://cms.example.org:8443", 8443, "https://cms.example.org:8443"),
        ("http://localhost:8765", None, "http://localhost:8765"),
        ("http://127.0.0.1", 8765, "http://127.0.0.1:8765"),
        ("127.0.0.1", "8765", "http://127.0.0.1:8765"),
        ("localhost", 8765, "http://localhost:8765"),
        ("https://localhost", 8765, "https://localhost:8765"),
        ("http://[::1]:8765", None, "http://[::1]:8765"),
        ("::1", 8765, "http://[::1]:8765"),
    ],
)
def test_host_becomes_the_root_url(host: str, port: int | str | None, expected: str) -> None:
    assert root_url(host, port) == expected


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        (None, None, "has no host"),
        ("  ", None, "has no host"),
        ("http://cms-example.cloud.contensis.com", None, "in the clear"),
        ("http://10.0.0.1", None, "in the clear"),
        ("ftp://cms-example.cloud.contensis.com", None, "must start with https://"),
        ("https://id:word@cms-example.cloud.contensis.com", None, "must not contain a user name"),
        ("https://cms-example.cloud.contensis.com/api/management", None, "must be the root"),
        ("https://cms-example.cloud.contensis.com/?a=b", None, "must be the root"),
        ("https://", None, "neither a URL"),
        ("https//cms-example.cloud.contensis.com", None, "neither a URL"),
        ("https:/cms-example.cloud.contensis.com", None, "neither a URL"),
        ("https:cms-example.cloud.contensis.com", None, "neither a URL"),
        ("http//cms-example.cloud.contensis.com", None, "neither a URL"),
        ("[", None, "neither a URL"),
        ("exa\u2100mple.org", None, "neither a URL"),
        ("\u017f", None, "neither a URL"),  # a long s, not an s
        ("two words", None, "neither a URL"),
        ("https://cms-university-of-example.cloud.contensis.com,", None, "neither a URL"),
        (f"{'a' * 60}!.com", None, "neither a URL"),
        (f"{'a.' * 200}com", None, "neither a URL"),
        ("https://cms-example.cloud.contensis.com:port", None, "neither a URL"),
        ("https://exa_mple!.org", None, "neither a URL"),
        ("example.org\nHost: evil.org", None, "neither a URL"),
        ("https://cms.example.org", "https", "'Port' must be a number"),
        ("https://cms.example.org", 65_536, "'Port' must be a number"),
        ("https://cms.example.org", -1, "'Port' must be a number"),
        ("https://cms.example.org:8443", 443, "one place only"),
    ],
)
def test_invalid_host_is_refused_with_the_reason(
    host: str | None, port: int | str | None, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        root_url(host, port)


def test_message_does_not_repeat_a_password_in_the_url() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        root_url("https://id:word-of-mouth@cms-example.cloud.contensis.com")
    assert "word-of-mouth" not in str(refusal.value)
