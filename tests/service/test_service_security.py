"""Who may call the page of `finicky serve`: every route, every disguise."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest
from service_helpers import Live, png, wall

from finicky.errors import UsageError
from finicky.service import Limits, ServiceOptions
from finicky.web import cookie_name

BAD_HOSTS = (
    "evil.com", "evil.com:{port}", "127.0.0.1.evil.com:{port}", "localhost.evil.com:{port}",
    "0.0.0.0:{port}", "2130706433:{port}", "127.1:{port}", "127.0.0.1:1", "127.0.0.1",
    "127.0.0.1:{port}@evil.com", "127.0.0.1:{port},evil.com", "127.0.0.1:{port}.",
)  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    running = Live(tmp_path_factory.mktemp("secure"))
    yield running
    running.close()


def test_every_route_is_closed_without_the_cookie(live: Live) -> None:
    routes = live.routes()
    assert len(routes) > 8
    for method, path in routes:
        for headers in (
            {},
            {"Cookie": f"{cookie_name(live.port)}=wrong"},
            {"Authorization": f"Bearer {live.cookie}"},
            {"X_Token": str(live.cookie)},
        ):
            status, body, _ = live.ask(method, path, cookie=False, **headers)
            assert status in (401, 403), (method, path)
            assert b"probability" not in body
        status, _, _ = live.ask(method, f"{path}?token={live.cookie}", cookie=False)
        assert status in (401, 403), (method, path)


def test_every_route_is_closed_to_other_names_for_this_machine(live: Live) -> None:
    for method, path in live.routes():
        for host in BAD_HOSTS:
            status, _, _ = live.ask(method, path, Host=host.format(port=live.port))
            assert status in (400, 403), (method, path, host)
        status, _, _ = live.ask(method, path, raw=(("Host", "evil.com"),))
        assert status in (400, 403), (method, path, "two hosts")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:{port}.evil.com"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_sites_can_neither_send_nor_read(live: Live, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=live.port) for name, value in headers.items()}
    for method, path in live.routes():
        if path == "/open" and "Origin" not in sent:
            continue  # a link may be clicked anywhere; it needs its token
        status, _, answered = live.ask(method, path, **sent)
        assert status == 403, (method, path)
        assert not [name for name in answered if name.lower().startswith("access-control")]


def test_sending_needs_the_header_that_forms_cannot_send(live: Live) -> None:
    photo = png(wall())
    for value in ("", "0"):
        status, _, _ = live.ask("POST", "/api/photos", body=photo, X_Finicky=value)
        assert status == 403


def test_a_link_opens_the_page_once(live: Live) -> None:
    token = live.keys.new_link()
    status, _, headers = live.ask("GET", f"/open?token={token}", cookie=False)
    assert status == 303
    cookie = headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert live.ask("GET", f"/open?token={token}", cookie=False)[0] == 401
    assert live.ask("GET", "/open?token=", cookie=False)[0] == 401


def test_every_answer_carries_the_security_headers(live: Live) -> None:
    for cookie in (True, False):
        for _, path in [*live.routes(), ("GET", "/nowhere")]:
            _, _, headers = live.ask("GET", path, cookie=cookie)
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"


PAYLOADS = (
    "../x", "..%2fx", "%2e%2e/x", "%2e%2e%2fx", "..%252fx", "..%5cx", "..%00/x", "%c0%ae%c0%ae/x",
    "/etc/passwd", "%2fetc%2fpasswd", "file:///etc/passwd", "C:%5cx", "~/x", "x%00.js", "%", "%zz",
    "a" * 5000, ".", "..", "*",
)  # fmt: skip


@pytest.mark.parametrize(
    "template", ["/static/{}", "/api/results/{}/overlay", "/api/results/{}", "/{}"]
)
def test_no_path_leads_to_a_file(live: Live, template: str) -> None:
    for payload in PAYLOADS:
        try:
            status, body, _ = live.ask("GET", template.format(payload))
        except (http.client.HTTPException, OSError):
            continue  # the server closed on a malformed request line
        assert status in (400, 403, 404), (payload, status)
        assert b"root:" not in body
        assert b"finicky-serve" not in body


def test_kinds_of_results_are_a_fixed_list(live: Live) -> None:
    _, found = live.post(png(wall()))
    for kind in ("../bundle", "overlay.jpg", "photo", "%2e%2e", "OVERLAY"):
        assert live.ask("GET", f"/api/results/{found['id']}/{kind}")[0] == 404


def test_other_addresses_need_to_be_asked_for() -> None:
    ServiceOptions().check()
    with pytest.raises(UsageError, match="--allow-remote"):
        ServiceOptions(host="192.168.1.20").check()
    with pytest.raises(UsageError, match="name the one"):
        ServiceOptions(host="0.0.0.0", allow_remote=True).check()
    with pytest.raises(UsageError, match="links must be from 1 to 100, got 0"):
        ServiceOptions(links=0).check()
    with pytest.raises(UsageError, match="got 70000"):
        ServiceOptions(port=70000).check()
    with pytest.raises(UsageError, match="at least 1"):
        Limits(waiting=0).check()
