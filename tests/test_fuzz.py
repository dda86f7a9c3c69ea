"""Hostile and broken input ends in a result or in one clear sentence.

`make fuzz EXAMPLES=5000` tries many more examples, and others with each SEED.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, Connection
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.connection import ConnectionSettings
from airflow_provider_contensis.connection_check import check
from airflow_provider_contensis.exceptions import ConfigurationError, ContensisError
from airflow_provider_contensis.export.content_types import export_content_types
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.sandbox import Request, Response, Sandbox, synthetic_catalogue
from tests.provider.test_operator import CONTEXT, operator
from tests.terminal import tell
from tests.test_secrets import everything_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHARES = {"form": 0.2, "call": 0.1, "arguments": 0.2, "run": 0.1, "answers": 0.4}
EXAMPLES = int(os.environ.get("EXAMPLES", "300"))
TIMEOUT = 2.0
# A failing call has two attempts; planning and reading an export make several calls.
MAX_SECONDS = 30.0

CATALOGUE = synthetic_catalogue(40, body_bytes=10)
ENTRY_ID = json.loads(CATALOGUE.entries("published")[0])["sys"]["id"]

# Threads of the server and the client use `random` while Hypothesis draws an example.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

COUNTS: Counter[str] = Counter()
SLOWEST: dict[str, float] = {}


def fuzzed(what: str) -> Callable[[Any], Any]:
    """Run a test with its share of the examples: the same ones each time, unless SEED is set."""
    chosen = os.environ.get("SEED")

    def decorate(test: Any) -> Any:
        configured = settings(
            max_examples=max(10, round(EXAMPLES * SHARES[what])),
            derandomize=chosen is None,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )(test)
        return configured if chosen is None else seed(int(chosen))(configured)

    return decorate


@pytest.fixture(scope="module", autouse=True)
def _report(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print the counts if EXAMPLES is set."""
    yield
    if "EXAMPLES" not in os.environ:
        return
    lines = [f"{'input':<12}{'tried':>8}{'result':>8}{'sentence':>10}{'slowest':>10}"]
    for what in SHARES:
        lines.append(
            f"{what:<12}{COUNTS[what]:>8}{COUNTS[f'{what} result']:>8}{COUNTS[f'{what} sentence']:>10}"
            f"{SLOWEST.get(what, 0):>8.1f} s"
        )
    tried = sum(COUNTS[what] for what in SHARES)
    lines.append(
        f"{tried} inputs: 0 unexpected exceptions, 0 hangs, 0 secrets (each would have failed the test)"
    )
    tell(request, "\n".join(lines))


class LogLines(logging.Handler):
    """Keeps every logged line."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def clear_outcome(
    what: str, *secrets: str, ours: tuple[type[Exception], ...] = (ContensisError,)
) -> Iterator[list[object]]:
    """Accept a result, or one clear sentence in one of our exceptions; never a secret or a hang.

    Yields a list for text shown to a person, which is searched for secrets too.

    :param ours: the exceptions that may be raised.
    """
    log, shown = LogLines(), list[object]()
    root = logging.getLogger()
    level = root.level
    root.addHandler(log)
    root.setLevel(logging.DEBUG)
    started = time.monotonic()
    COUNTS[what] += 1
    try:
        yield shown
    except ours as error:
        COUNTS[f"{what} sentence"] += 1
        sentence = str(error)
        assert sentence.isprintable(), sentence
        assert len(sentence) < 2_000, sentence
        assert sentence.endswith((".", ")", '"', "'", "…")) or " " in sentence, sentence
        shown.append(everything_of(error))
    else:
        COUNTS[f"{what} result"] += 1
    finally:
        root.removeHandler(log)
        root.setLevel(level)
    took = time.monotonic() - started
    SLOWEST[what] = max(took, SLOWEST.get(what, 0.0))
    assert took < MAX_SECONDS
    everything = "\n".join([*log.lines, *map(str, shown)])
    for secret in secrets:
        assert secret not in everything


# --- input from people and templates ----------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(codec=None), max_size=40)
LONG = st.sampled_from(["a", "\u1e9e", "1", "[", " "]).map(lambda text: text * 10_000)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([1, -1]).map(lambda sign: sign * 10**5_000))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, ANY_TEXT, LONG, st.binary(max_size=9))


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


DEEP = st.sampled_from([900, 20_000]).map(nested)
JUNK = st.one_of(
    SCALARS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    DEEP,
)
FRAGMENTS = [
    "1" * 5_000,
    "-1" + "0" * 400,
    "1e999",
    "NaN",
    "-Infinity",
    "[" * 100_000,
    "[" * 900 + "]" * 900,
    "[" * 5_000 + "]" * 5_000,
    '{"a":' * 900 + "1" + "}" * 900,
    '{"a":' * 5_000 + "1" + "}" * 5_000,
    '{"id":"a","id":"b","ID":7}',
    '"\\ud800"',
    '{"\\ud800":"\\udfff"}',
    '"../../../x"',
    '"/etc/x"',
    '".."',
    '"a\\u0000b"',
    '"' + "x" * 300 + '"',
    '"\\u202e\\r\\nERROR"',
    "",
    "{",
    "nul",
]
RAW_JSON = st.one_of(
    st.builds(
        json.dumps,
        st.recursive(
            SCALARS.filter(
                lambda x: not isinstance(x, bytes) and not (isinstance(x, int) and abs(x) > 10**4_000)
            ),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
            max_leaves=5,
        ),
    ),
    st.integers(0, len(FRAGMENTS) - 1).map(lambda number: FRAGMENTS[number]),
)

HOSTS = st.one_of(
    JUNK,
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                [
                    "https://",
                    "http://",
                    "ftp://",
                    "//",
                    "cms-",
                    "a",
                    "example",
                    ".cloud.contensis.com",
                    "[",
                    "]",
                    "::1",
                    "%25lo",
                    "fe80::1%eth0",
                    "127.0.0.1",
                    "0x7f.1",
                    "localhost",
                    ":",
                    "443",
                    "99999",
                    "-1",
                    "@",
                    "user:word@",
                    "/",
                    "/api",
                    "?a=b",
                    "#f",
                    "\\",
                    "\t",
                    "\n",
                    "\x00",
                    " ",
                    "xn--",
                    "ä",
                    "℀",
                    "。",
                    "\ud800",
                ]
            ),
            max_size=6,
        ),
    ),
)
EXTRAS = st.one_of(
    st.none(),
    ANY_TEXT,
    LONG,
    RAW_JSON,
    st.builds(
        lambda names, values: (
            "{" + ",".join(f"{json.dumps(n)}:{v}" for n, v in zip(names, values, strict=False)) + "}"
        ),
        st.lists(
            st.sampled_from(
                ["project_id", "scopes", "timeout", "verify", "proxies", "extra__contensis__scopes", "x"]
            ),
            max_size=4,
        ),
        st.lists(RAW_JSON, min_size=4, max_size=4),
    ),
)


@fuzzed("form")
@given(host=HOSTS, port=JUNK, login=JUNK, password=JUNK, extra=EXTRAS)
def test_any_connection_is_read_or_refused_clearly(
    host: Any, port: Any, login: Any, password: Any, extra: Any
) -> None:
    is_secret = isinstance(password, str) and len(password.strip()) > 8 and password != login
    secrets = [password] if is_secret else []
    connection = Connection(conn_id="x", host=host, port=port, login=login, password=password, extra=extra)
    with clear_outcome("form", *secrets) as shown:
        parsed = ConnectionSettings.from_connection(connection)
        shown.append(repr(parsed))
        assert parsed.root_url.startswith(("https://", "http://127.", "http://localhost", "http://[::1"))
        assert isinstance(parsed.verify, bool | str)
        assert 0 < parsed.timeout <= 86_400


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(CATALOGUE) as sandbox:
        yield sandbox


PROXIES = st.sampled_from(
    [
        "",
        "http://127.0.0.1:9",
        "127.0.0.1:9",
        "socks5://127.0.0.1:9",
        "http://me:word@127.0.0.1:9",
        "http://[",
        "://",
        "http://",
        "http://127.0.0.1:99999",
        "\x00",
        "\ud800",
        "x" * 10_000,
    ]
)


@fuzzed("call")
@given(
    login=JUNK,
    password=JUNK,
    project=JUNK,
    scopes=st.one_of(st.none(), ANY_TEXT, LONG),
    verify=st.one_of(st.booleans(), ANY_TEXT, LONG),
    proxies=st.dictionaries(
        st.sampled_from(["http", "https", "all", "http://127.0.0.1", "", "x"]), PROXIES, max_size=2
    ),
)
def test_call_over_any_connection_succeeds_or_fails_clearly(
    sandbox: Sandbox, login: Any, password: Any, project: Any, scopes: Any, verify: Any, proxies: Any
) -> None:
    extra = {
        "project_id": project,
        "scopes": scopes,
        "verify": verify,
        "proxies": proxies,
        "timeout": TIMEOUT,
    }
    try:
        text = json.dumps(extra)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps({**extra, "project_id": sandbox.project_id})
    fields = {**sandbox.connection, "extra": text}
    fields.update({name: value for name, value in (("login", login), ("password", password)) if value})
    hook = ContensisHook("x")
    hook.get_connection = lambda _: Connection(conn_id="x", **fields)  # type: ignore[method-assign,assignment]  # no database
    secrets = [password] if isinstance(password, str) and len(password.strip()) > 8 else []
    with clear_outcome("call", *secrets) as shown:
        ok, message = hook.test_connection()
        shown.append(message)
        assert message.isprintable(), message
        assert len(message) < 2_000
        if ok:
            hook.get_project()


# --- arguments --------------------------------------------------------------------------------------------

ARGUMENTS = (
    "content_type_id",
    "language",
    "version_status",
    "data_format",
    "where",
    "fields",
    "changed_from",
    "changed_to",
    "api",
    "link_depth",
    "file_format",
    "compression",
    "escape_formulas",
    "parquet_mode",
    "on_type_mismatch",
    "page_size",
    "max_concurrent_requests",
)
VALUES = st.one_of(
    JUNK,
    RAW_JSON,
    st.datetimes(),
    st.sampled_from(
        [
            "published",
            "latest",
            "delivery",
            "parquet",
            "csv",
            "gzip",
            "zstd",
            "1",
            1,
            "raw",
            "{{ x",
            "2031-01-01",
            "9999-12-31T23:59:59.999999999-23:59",
            "0001-01-01T00:00+23:00",
            "~",
            "~\x00",
        ]
    ),
)
SOME_ARGUMENTS = st.dictionaries(st.sampled_from(ARGUMENTS), VALUES, max_size=3)
DESTINATIONS = st.one_of(
    JUNK,
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                [
                    "/",
                    "~",
                    "~nobody-of-this-name",
                    "file://",
                    "s3://",
                    "gs://",
                    "x",
                    ".jsonl",
                    ".csv",
                    ".parquet",
                    ".gz",
                    ".json",
                    "..",
                    "%2e",
                    "%00",
                    "\x00",
                    "\ud800",
                    " ",
                    "?",
                    "#",
                    "@",
                    "a" * 300,
                    "localhost",
                    "://",
                ]
            ),
            max_size=5,
        ),
    ),
)


@fuzzed("arguments")
@given(destination=DESTINATIONS, arguments=SOME_ARGUMENTS)
def test_any_arguments_are_accepted_or_refused_clearly(destination: Any, arguments: dict[str, Any]) -> None:
    with clear_outcome("arguments", ours=(ConfigurationError,)):
        operator(destination=destination, **arguments)


@fuzzed("run")
@given(
    name=st.one_of(
        ANY_TEXT, st.sampled_from(["", "x.jsonl", "x.csv", "x.parquet", "x/", "a" * 300 + ".jsonl"])
    ).filter(lambda name: ".." not in name),
    arguments=SOME_ARGUMENTS,
)
def test_run_with_any_arguments_succeeds_or_fails_clearly(
    sandbox: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    arguments: dict[str, Any],
) -> None:
    folder = tmp_path_factory.mktemp("run")
    with (
        pytest.MonkeyPatch.context() as patch,
        clear_outcome("run", sandbox.client_secret, ours=(ContensisError, AirflowFailException)),
    ):
        patch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", sandbox.connection_json)
        task = operator(destination=f"{folder}/{name}", **arguments)
        task.execute(CONTEXT)


# --- answers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """How one kind of answer goes wrong.

    :param kind: of request, as the sandbox names it.
    :param status: of the answer.
    :param headers: added to the usual ones.
    :param path: of the JSON value to replace, as the numbers of children.
    :param replacement: JSON text to put there.
    :param damage: done to the body.
    """

    kind: str
    status: int
    headers: dict[str, str]
    path: list[int]
    replacement: str
    damage: str

    def faults(self, secrets: set[str]) -> Callable[[Request], Response | None]:
        def answer(request: Request) -> Response | None:
            normal = request.answer()
            if request.kind == "token" and normal.status == 200:
                secrets.add(json.loads(normal.body)["access_token"])
            if request.kind != self.kind:
                return normal
            body = replace_value(normal.body, self.path, self.replacement)
            sent = request.headers.get("authorization", "").removeprefix("Bearer ")
            body = body.replace(b"TOKEN", sent.encode())
            headers = {**normal.headers, **{n: v.replace("TOKEN", sent) for n, v in self.headers.items()}}
            length = None
            if self.damage == "cut":
                body = body[: len(body) // 2]
            elif self.damage == "short":
                length = len(body) + 1
            elif self.damage == "gigabyte":
                length = 1 << 30
            elif self.damage == "exabyte":
                length = 1 << 70
            elif self.damage == "bytes":
                body = body.replace(b":", b":\xff\xfe", 1)
            elif self.damage == "utf-16":
                body = body.decode("utf-8", "replace").encode("utf-16")
            elif self.damage == "not gzip":
                headers["content-encoding"] = "gzip"
            return Response(self.status, body, headers, content_length=length)

        return answer


def replace_value(body: bytes, path: list[int], replacement: str) -> bytes:
    """Return JSON with one value replaced."""
    try:
        whole = {"": json.loads(body)}
    except ValueError:
        return replacement.encode("utf-8", "surrogatepass")
    holder: Any = whole
    key: Any = ""
    for number in path:
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        names = list(inner) if isinstance(inner, dict) else range(len(inner))
        holder, key = inner, names[number % len(names)]
    holder[key] = "HERE"
    marked = json.dumps(whole[""]).encode()
    return marked.replace(b'"HERE"', replacement.encode("utf-8", "surrogatepass"))


ANSWERS = st.builds(
    Answer,
    kind=st.sampled_from(["token", "project", "content_type", "search", "entry"]),
    status=st.sampled_from(
        [200] * 12 + [201, 204, 304, 307, 400, 401, 403, 404, 422, 429, 500, 503, 599, 999]
    ),
    headers=st.dictionaries(
        st.sampled_from(["Retry-After", "Content-Type", "Location", "Content-Encoding", "WWW-Authenticate"]),
        st.sampled_from(
            [
                "",
                "0",
                "-1",
                "9" * 400,
                "soon",
                "Thu, 01 Jan 99999999999 00:00:00 GMT",
                "text/html",
                "TOKEN",
                "http://[",
                "//evil.invalid/",
                "/?TOKEN",
                "gzip",
                "br",
                "deflate, gzip",
                "x" * 5_000,
            ]
        ),
        max_size=2,
    ),
    path=st.lists(st.integers(0, 40), max_size=6),
    replacement=st.one_of(
        RAW_JSON,
        st.sampled_from(['"TOKEN"', '{"message":"TOKEN","data":[{"field":"TOKEN","message":"TOKEN"}]}']),
    ),
    damage=st.sampled_from(
        ["", "", "", "", "cut", "short", "gigabyte", "exabyte", "bytes", "utf-16", "not gzip"]
    ),
)


def export(client: ContensisClient, project_id: str, folder: Path, **arguments: Any) -> None:
    request = ExportRequest.from_arguments(**arguments)
    export_entries(client, project_id, request)


CALLS: dict[str, Callable[[ContensisClient, str, Path], object]] = {
    "check": lambda client, project_id, _: check(client, project_id=project_id),
    "check without a project": lambda client, project_id, _: check(client, project_id=None),
    "project": lambda client, project_id, _: client.get_project(project_id),
    "content types": lambda client, project_id, _: client.list_content_types(project_id),
    "content type": lambda client, project_id, _: client.get_content_type(project_id, "article"),
    "entry": lambda client, project_id, _: client.get_entry(project_id, ENTRY_ID),
    "search": lambda client, project_id, _: client.search_entries(project_id, {"pageSize": 5}),
    "count": lambda client, project_id, _: client.count_entries(project_id, []),
    "definitions": lambda client, project_id, folder: export_content_types(
        client, project_id, f"{folder}/c.json"
    ),
    **{
        name: lambda client, project_id, folder, name=name, more=more: export(  # type: ignore[misc]  # its defaults have types that mypy cannot infer
            client, project_id, folder, destination=f"{folder}/{name}", page_size=30, **more
        )
        for name, more in {
            "x.jsonl": {},
            "x.json": {"fields": ["sys.version", "title.a"]},
            "x.csv": {},
            "x.parquet": {"on_type_mismatch": "raw"},
            "jsonl/": {"data_format": None},
            "csv/": {"file_format": "csv", "compression": "gzip"},
            "parquet/": {"file_format": "parquet", "parquet_mode": "raw"},
        }.items()
    },
}


EXPORT_KINDS = {"token", "project", "content_type", "search"}
REQUEST_KINDS = {
    "check": {"token", "project", "search"},
    "check without a project": {"token", "project", "search"},
    "project": {"token", "project"},
    "content types": {"token", "content_type"},
    "content type": {"token", "content_type"},
    "definitions": {"token", "content_type"},
    "entry": {"token", "entry"},
    "search": {"token", "search"},
    "count": {"token", "search"},
}
PAIRS = st.tuples(
    ANSWERS, st.sampled_from([*CALLS, *[name for name in CALLS if name not in REQUEST_KINDS] * 2])
).filter(lambda pair: pair[0].kind in REQUEST_KINDS.get(pair[1], EXPORT_KINDS))


@fuzzed("answers")
@given(pair=PAIRS)
def test_any_answer_ends_in_a_result_or_a_clear_error(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, pair: tuple[Answer, str]
) -> None:
    answer, call = pair
    folder = tmp_path_factory.mktemp("answers") / "out"
    folder.mkdir()
    secrets = {sandbox.client_secret}
    credentials = Credentials(
        sandbox.url,
        sandbox.client_id,
        sandbox.client_secret,
        ("Entry_Read", "ContentType_Read", "Project_Read"),
    )
    client = ContensisClient(
        credentials,
        timeout=TIMEOUT,
        retry=RetryPolicy(attempts=2, initial_wait=0.001, max_wait=0.01),
        tokens=TokenCache(),
    )
    sandbox.faults = answer.faults(secrets)
    try:
        with clear_outcome("answers") as shown:
            result = CALLS[call](client, sandbox.project_id, folder)
            if call.startswith("check"):
                shown.append(str(result))
        for secret in secrets:
            assert secret not in "\n".join(map(str, shown))
    finally:
        sandbox.faults = None
        client.close()
    assert os.listdir(folder.parent) == ["out"]
    assert all(
        path.is_file() and path.parent.parent in (folder, folder.parent)
        for path in folder.rglob("*")
        if not path.is_dir()
    )
