"""The connection form and the Test button in a browser."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from airflow_provider_contensis.sandbox import Request, Response, Sandbox
from tests.tls import certificate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.ui.connections import Connections


def changed(sandbox: Sandbox, extra: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return a sandbox's connection with some fields changed."""
    connection = {**sandbox.connection, **fields}
    return {**connection, "extra": {**connection["extra"], **(extra or {})}}


def take_screenshot_of_result(connections: Connections, path: Path) -> None:
    """Press Test again for the documentation, on a page without other messages."""
    connections.page.set_viewport_size({"width": 1000, "height": 500})
    connections.open()
    connections.press_test()
    connections.page.screenshot(path=path, animations="disabled")


def test_form_shows_only_fields_of_an_api_key(connections: Connections, screenshots: Path) -> None:
    connections.begin()
    form = connections.form
    always = ["Connection ID *", "Connection Type *", "Description"]
    ours = ["Contensis URL or alias", "Client ID", "Shared secret", "Port"]
    optional = ["Project", "Scopes", "Timeout (seconds)"]
    expect(form.locator("label")).to_have_text([*always, *ours, *optional])
    expect(connections.field("host")).to_have_attribute("placeholder", re.compile("^https://"))
    expect(connections.field("port")).to_have_attribute("placeholder", re.compile("^443"))
    expect(connections.field("password")).to_have_attribute("type", "password")
    form.screenshot(path=screenshots / "form.png")


def test_optional_fields_show_their_defaults(connections: Connections, screenshots: Path) -> None:
    connections.begin()
    connections.expand_extra_fields()
    expect(connections.extra_field("project_id")).to_have_value("")
    expect(connections.extra_field("scopes")).to_have_value("Entry_Read ContentType_Read Project_Read")
    expect(connections.extra_field("timeout")).to_have_value("60")
    expect(connections.form.get_by_text("such as website")).to_be_visible()
    connections.form.screenshot(path=screenshots / "form-extra.png")


def test_connection_from_form_passes_test(
    connections: Connections, sandbox: Sandbox, screenshots: Path
) -> None:
    connections.add(sandbox.connection)
    toast = connections.press_test()
    expect(toast).to_contain_text("Test Connection Successful")
    expect(toast).to_contain_text("API key 'Sandbox key'")
    expect(toast).to_contain_text("project 'isoCodes' (ISO codes) can be read")
    expect(toast).to_contain_text(f"{len(english(sandbox)):,} published entries in en-GB")
    assert_no_secret_shows(connections, sandbox)
    take_screenshot_of_result(connections, screenshots / "test-success.png")


def test_untidy_values_are_accepted(connections: Connections, sandbox: Sandbox) -> None:
    untidy = changed(
        sandbox,
        {"project_id": " isoCodes ", "scopes": "Entry_Read,\nContentType_Read,\nProject_Read\n"},
        host=f" {sandbox.url}/ ",
        login=f" {sandbox.client_id} ",
        password=f" {sandbox.client_secret} ",
    )
    connections.add(untidy)
    expect(connections.press_test()).to_contain_text("Test Connection Successful")


def test_message_for_url_with_path_says_what_to_write(connections: Connections, sandbox: Sandbox) -> None:
    connections.add(changed(sandbox, host=f"{sandbox.url}/authenticate/connect/token"))
    expect(connections.press_test()).to_contain_text(
        f"'Contensis URL or alias' must be the root of the environment, with nothing after the host: "
        f"write {sandbox.url}"
    )


@pytest.mark.skipif(
    version("apache-airflow") not in {"3.3.1", "3.3.2"}, reason="other versions test without a port"
)
def test_connection_without_port_passes_test_once_it_has_one(
    connections: Connections, sandbox: Sandbox
) -> None:
    portless = changed(sandbox, host=sandbox.url)
    del portless["port"]
    connections.add(portless)
    expect(connections.press_test()).to_contain_text("Bad Request")
    connections.open()
    connections.edit("port", sandbox.port)
    expect(connections.press_test()).to_contain_text("Test Connection Successful")


REASONS = {
    "a wrong secret": "check 'Client ID' and 'Shared secret'",
    "a scope that the key may not have": "remove scopes from 'Scopes'",
    "an unknown project": "'Project' is 'another', which the API key cannot see",
    "an unknown host": "Cannot resolve the host name of",
    "a host that refuses connections": "refuses connections",
    "a host that does not answer": "did not answer within 2 seconds",
    "an untrusted certificate": "is not trusted (self-signed certificate)",
    "a website instead of the CMS": "an HTML page",
    "a key without a role": "Assign it to a role of the project",
    "plain http": "would send the shared secret in the clear",
}


@pytest.fixture(scope="module")
def broken(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """Broken connections, by what is wrong with them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path_factory.mktemp("tls")))

    def website(_: Request) -> Response:
        return Response(404, b"<html><h1>Not found</h1></html>", {"content-type": "text/html"})

    with ExitStack() as running:
        silent = running.enter_context(socket.create_server(("127.0.0.1", 0)))
        with socket.create_server(("127.0.0.1", 0)) as closed:
            refusing = closed.getsockname()[1]
        others = {
            "an untrusted certificate": Sandbox(sandbox.catalogue, tls=context),
            "a website instead of the CMS": Sandbox(sandbox.catalogue, faults=website),
            "a key without a role": Sandbox(sandbox.catalogue, forbidden=True),
        }
        yield {
            "a wrong secret": changed(sandbox, password="wrong-" + sandbox.client_secret),
            "a scope that the key may not have": changed(sandbox, {"scopes": "Entry_Read Everything"}),
            "an unknown project": changed(sandbox, {"project_id": "another"}),
            # No name below .invalid ever resolves (RFC 2606); one below contensis.com may, by a wildcard.
            "an unknown host": changed(sandbox, host="https://cms-misspelt.invalid", port=443),
            "a host that refuses connections": changed(sandbox, port=refusing),
            "a host that does not answer": changed(sandbox, {"timeout": 2}, port=silent.getsockname()[1]),
            "plain http": changed(sandbox, host="http://cms-example.cloud.contensis.com", port=443),
            **{cause: running.enter_context(other).connection for cause, other in others.items()},
        }


@pytest.mark.parametrize("cause", REASONS)
def test_message_of_failure_gives_its_reason(
    cause: str,
    broken: dict[str, dict[str, Any]],
    connections: Connections,
    sandbox: Sandbox,
    screenshots: Path,
) -> None:
    connections.add(broken[cause])
    toast = connections.press_test()
    expect(toast).to_contain_text("Test Connection Failed")
    message = toast.inner_text()
    assert [other for other, reason in REASONS.items() if reason in message] == [cause], message
    assert_no_secret_shows(connections, sandbox)
    if cause == "a wrong secret":
        take_screenshot_of_result(connections, screenshots / "test-failure.png")


def english(sandbox: Sandbox) -> list[bytes]:
    return list(sandbox.catalogue.entries("published", language="en-GB"))


def assert_no_secret_shows(connections: Connections, sandbox: Sandbox) -> None:
    shown = connections.page.content()
    assert sandbox.client_secret not in shown
    assert "eyJ" not in shown  # every token begins like this
