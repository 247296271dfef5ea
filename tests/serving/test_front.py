"""Names, proxies, prefixes and other sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mobilenext.errors import UsageError
from mobilenext.serving.front import LOCAL, Front, below, host_of

if TYPE_CHECKING:
    from starlette.testclient import TestClient

BEHIND = Front.of(
    hosts=[*LOCAL, "models.example.org", "*.example.net"], prefix="/models", origins=["https://app.example.com"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("models.example.org", True),
        ("Models.Example.ORG.:443", True),
        ("a.example.net", True),
        ("a.b.example.net", True),
        ("example.net", False),
        ("badexample.net", False),
        ("models.example.org.evil.test", False),
        ("rebound.example", False),
        ("192.0.2.1", False),
        ("", True),  # HTTP/1.0, as some monitors speak it; a browser always names the host
    ],
)
def test_names(host: str, answered: bool) -> None:
    assert BEHIND.answers(host_of(host)) is answered


def test_any_name_is_answered_where_none_is_given() -> None:
    assert Front().answers("anything.example")
    assert Front.of(hosts=["*"]).answers("anything.example")


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({}, "10.0.0.2"),
        ({"x-forwarded-for": "203.0.113.7"}, "203.0.113.7"),
        ({"x-forwarded-for": "203.0.113.7:4711"}, "203.0.113.7"),
        ({"x-forwarded-for": "::ffff:203.0.113.7"}, "203.0.113.7"),
        ({"x-forwarded-for": "[2001:db8::7]:4711"}, "2001:db8::7"),
        ({"x-forwarded-for": "1.1.1.1, 203.0.113.7"}, "203.0.113.7"),  # the first was written by the client itself
        ({"x-forwarded-for": "203.0.113.7, 10.9.9.9"}, "203.0.113.7"),  # two of our proxies
        ({"x-forwarded-for": "unknown, 10.9.9.9"}, "10.9.9.9"),
        ({"x-forwarded-for": "x" * 100_000}, "10.0.0.2"),
        ({"x-forwarded-for": ", ," * 10_000}, "10.0.0.2"),
        ({"x-real-ip": "203.0.113.7"}, "203.0.113.7"),
        ({"forwarded": "for=203.0.113.7;proto=https;by=10.0.0.2"}, "203.0.113.7"),
        ({"forwarded": 'for=1.1.1.1, For="[2001:db8::7]:4711"'}, "2001:db8::7"),
        ({"forwarded": "for=_hidden, for=10.9.9.9"}, "10.9.9.9"),
        ({"forwarded": "proto=https"}, "10.0.0.2"),
    ],
)
def test_forwarded_addresses_of_a_proxy(headers: dict[str, str], client: str) -> None:
    front = Front.of(proxies=["10.0.0.0/8"])
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert front.client("10.0.0.2", pairs) == client
    assert front.client("198.51.100.1", pairs) == "198.51.100.1", "nobody else is believed"


def test_forwarded_names_and_prefixes() -> None:
    front = Front.of(proxies=["10.0.0.2", "fd00::/8"])
    headers = [
        (b"host", b"127.0.0.1:8080"),
        (b"x-forwarded-host", b"Models.Example.org"),
        (b"x-forwarded-prefix", b"/a/b/"),
    ]
    assert front.host("10.0.0.2", headers) == front.host("fd00::1", headers) == "models.example.org"
    assert front.host("10.0.0.3", headers) == "127.0.0.1:8080"
    assert front.root_path("10.0.0.2", headers) == "/a/b"
    assert front.root_path("10.0.0.3", headers) == ""
    assert Front.of(prefix="/own", proxies=["10.0.0.2"]).root_path("10.0.0.2", headers) == "/own"
    hostile = [(b"x-forwarded-prefix", b"/<script>")]
    assert front.root_path("10.0.0.2", hostile) == ""


def test_paths_below_a_prefix() -> None:
    assert below("/models/v1/models", "/models") == below("/v1/models", "/models") == "/v1/models"
    assert below("/modelsx", "/models") == "/modelsx"
    assert below("/models", "/models") == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": ["https://a.example"]}, "--allow-host 'https://a.example' is no name"),
        ({"hosts": ["a b"]}, "is no name"),
        ({"hosts": [""]}, "is no name"),
        ({"hosts": ["a.example:8080"]}, "without scheme, port and path"),
        ({"proxies": ["proxy.example"]}, "--trusted-proxy 'proxy.example' is no address"),
        ({"proxies": ["10.0.0.0/99"]}, "is no address"),
        ({"prefix": "models"}, "--root-path 'models' is no path"),
        ({"prefix": "/a/../b c"}, "is no path"),
        ({"origins": ["app.example.org"]}, "--allow-origin 'app.example.org' is no origin"),
        ({"origins": ["https://app.example.org/page"]}, "is no origin"),
        ({"origins": ["null"]}, "is no origin"),
    ],
)
def test_what_is_refused_when_it_starts(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Front.of(**options)


@pytest.fixture(scope="module")
def behind(open_client: Callable[..., TestClient], models: list[Any]) -> Iterator[TestClient]:
    with open_client(models[1:], front=BEHIND) as client:
        yield client


def test_other_names_are_421_but_a_monitor_is_answered(behind: TestClient) -> None:
    for path in ("/", "/v1/models", "/metrics", "/nowhere"):
        answer = behind.get(path, headers={"Host": "rebound.example"})
        assert answer.status_code == 421, path
        assert "--allow-host" in answer.json()["detail"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert behind.get("/v1/models", headers={"Host": "models.example.org"}).status_code == 200
    for path in ("/healthz", "/readyz"):
        assert behind.get(path, headers={"Host": "10.1.2.3:8080"}).status_code == 200


def test_a_prefix_that_the_proxy_takes_away_or_leaves(behind: TestClient) -> None:
    local = {"Host": "localhost"}
    for path in ("/v1/models", "/models/v1/models", "/models/v1/models/", "//v1/models", "http://localhost/v1/models"):
        assert behind.get(path, headers=local).status_code == 200, path
    assert behind.get("/models/", headers=local).text.startswith("<!doctype html>")
    redirected = behind.get("/models", headers=local, follow_redirects=False)
    assert (redirected.status_code, redirected.headers["location"]) == (308, "models/")
    assert behind.get("/models/openapi.json", headers=local).json()["servers"] == [{"url": "/models"}]


def test_what_monitors_and_proxies_send(client: TestClient) -> None:
    for path in ("/", "/healthz", "/readyz", "/v1/models", "/docs", "/favicon.ico", "/robots.txt", "/healthz/"):
        got, head = client.get(path), client.head(path)
        assert (got.status_code, head.status_code, head.content) == (200, 200, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
    for path in ("/", "/healthz", "*"):
        answer = client.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, POST, OPTIONS")
    for answer, status in (
        (client.head("/v1/predict"), 405),
        (client.request("TRACE", "/"), 405),
        (client.request("PROPFIND", "/"), 405),
        (client.put("/v1/predict", content=b"x"), 405),
        (client.head("/nowhere"), 404),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "https://localhost"}, 200),  # the proxy has ended the encryption
        ({"Origin": "https://models.example.org"}, 200),  # named, though the proxy passes "localhost" on
        ({"Origin": "https://app.example.com"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
    ],
)
def test_requests_of_other_sites(behind: TestClient, digits: list[Path], headers: dict[str, str], status: int) -> None:
    own = {"Host": "localhost"} | headers
    answers = [
        behind.get("/v1/models", headers=own),
        behind.post("/v1/predict", content=digits[0].read_bytes(), headers=own),
    ]
    if "Sec-Fetch-Mode" not in headers:
        assert [answer.status_code for answer in answers] == [status, status]
    assert answers[0].status_code == status
    shared = headers.get("Origin") == "https://app.example.com"
    assert answers[0].headers.get("access-control-allow-origin") == ("https://app.example.com" if shared else None)


def test_a_preflight_of_an_allowed_site(behind: TestClient) -> None:
    asked = {"Host": "localhost", "Access-Control-Request-Method": "POST"}
    answer = behind.options("/v1/predict", headers=asked | {"Origin": "https://app.example.com"})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "POST" in answer.headers["access-control-allow-methods"]
    refused = behind.options("/v1/predict", headers=asked | {"Origin": "https://evil.example"})
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers


def test_a_client_of_a_proxy_has_a_share_of_its_own(
    open_client: Callable[..., TestClient], slow: tuple[Any, Any], digits: list[Path]
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    model, network = slow
    content = digits[0].read_bytes()

    def ask(client: TestClient, address: str) -> int:
        return client.post("/v1/predict", content=content, headers={"X-Forwarded-For": address}).status_code

    with open_client([model], front=Front.of(proxies=["127.0.0.1"]), max_per_client=1, timeout_s=1) as client:
        client._transport.client = ("127.0.0.1", 50000)  # the test client's own address is a name
        with ThreadPoolExecutor(3) as pool:
            codes = list(pool.map(lambda address: ask(client, address), ["192.0.2.1", "192.0.2.2", "192.0.2.1"]))
        network.go.set()
    assert sorted(codes) == [429, 504, 504]


@pytest.mark.parametrize(
    "kind",
    [
        "", "image/png", "image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain",
        "application/json", "multipart/form-data", "binary/octet-stream", "no type at all",
    ],
)  # fmt: skip
def test_the_bytes_decide_whatever_the_content_type_says(
    client: TestClient, digits: list[Path], expected: list[dict[str, Any]], kind: str
) -> None:
    answer = client.post("/v1/predict", content=digits[0].read_bytes(), headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == 200, answer.text
    assert answer.json()["classes"][0]["id"] == expected[0]["classes"][0]


@pytest.mark.parametrize("name", ["file", "image", "photo", ""])
def test_a_file_in_any_part_of_a_form(client: TestClient, digits: list[Path], name: str) -> None:
    answer = client.post("/v1/predict", files={name: ("a.png", digits[0].read_bytes())}, data={"topk": "3"})
    assert answer.status_code == 200, answer.text
