"""Who may call the labeler: every route, every disguise."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from labeler_helpers import free_port, make_project

from finicky.errors import DataError, UsageError
from finicky.labeler.owner import remember
from finicky.labeler.server import ServerOptions, bind, make_app
from finicky.web import Keys, check_address, cookie_name

SECRET = "the inspector's private file"


class Live:
    """A labeler in this process, spoken to byte by byte."""

    def __init__(self, root: Path) -> None:
        self.place = make_project(root)
        self.port = free_port()
        self.keys = Keys()
        app = make_app(self.place, keys=self.keys, port=self.port, options=ServerOptions())
        config = uvicorn.Config(
            app, port=self.port, log_level="error", access_log=False, lifespan="off", ws="none"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.cookie = self.keys.redeem(self.keys.new_link())
        self.photo = self.place.scan()[0].id

    def ask(
        self,
        method: str,
        path: str,
        *,
        cookie: bool = True,
        body: bytes = b"",
        raw: tuple[tuple[str, str], ...] = (),
        **headers: str,
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """One request; headers by keyword replace the good ones, None-like "" drops them."""
        sent = {"Host": f"127.0.0.1:{self.port}"}
        if cookie:
            sent["Cookie"] = f"{cookie_name(self.port)}={self.cookie}"
        if method in ("POST", "PUT"):
            sent["X-Finicky"] = "1"
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in [*sent.items(), *raw]:
            if value or name not in sent:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, answer.headers

    def routes(self) -> list[tuple[str, str]]:
        """Every route with a method that it takes, for a photo that exists."""
        guard = self.server.config.app
        found = []
        for route in guard._app.routes:
            path = route.path.replace("{photo}", self.photo).replace("{name}", "main.js")
            for part in ("{level:int}", "{column:int}", "{row:int}"):
                path = path.replace(part, "0")
            found += [(method, path) for method in sorted(route.methods)]
        return found

    def fingerprint(self) -> str:
        """Of every file of the project."""
        digest = hashlib.sha256()
        for path in sorted(self.place.root.rglob("*")):
            digest.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
        return digest.hexdigest()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    root = tmp_path_factory.mktemp("secure")
    (root / "secret.png").write_text(SECRET)
    running = Live(root / "project")
    yield running
    running.server.should_exit = True
    running.thread.join(10)


def test_every_route_is_closed_without_the_cookie(live: Live) -> None:
    routes = live.routes()
    assert len(routes) > 20
    before = live.fingerprint()
    for method, path in routes:
        for headers in (
            {},
            {"Cookie": f"{cookie_name(live.port)}=wrong"},
            {"Authorization": f"Bearer {live.cookie}"},
            {"X_Token": str(live.cookie)},
        ):
            status, body, _ = live.ask(method, path, cookie=False, **headers)
            assert status in (401, 403), (method, path)
            assert b"photo 0" not in body
        status, _, _ = live.ask(method, f"{path}?token={live.cookie}", cookie=False)
        assert status in (401, 403), (method, path)
    assert live.fingerprint() == before


BAD_HOSTS = (
    "evil.com", "evil.com:{port}", "127.0.0.1.evil.com:{port}", "localhost.evil.com:{port}",
    "0.0.0.0:{port}", "2130706433:{port}", "127.1:{port}", "0x7f.1:{port}", "127.0.0.1:1",
    "127.0.0.1", "localhost", "[::1]", "127.0.0.1:{port}@evil.com", "user@127.0.0.1:{port}",
    "127.0.0.1:{port},evil.com", "127.0.0.1:{port}.", "[::ffff:127.0.0.1]:{port}",
)  # fmt: skip


def test_every_route_is_closed_to_other_names_for_this_machine(live: Live) -> None:
    for method, path in live.routes():
        for host in BAD_HOSTS:
            status, _, _ = live.ask(method, path, Host=host.format(port=live.port))
            assert status in (400, 403), (method, path, host)
        good = f"127.0.0.1:{live.port}"
        status, _, _ = live.ask(method, path, raw=(("Host", "evil.com"),))
        assert status in (400, 403), (method, path, "two hosts")
        status, _, _ = live.ask(method, path, Host="evil.com", X_Forwarded_Host=good)
        assert status in (400, 403), (method, path, "forwarded")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_loopback_names_are_answered(live: Live, host: str) -> None:
    assert live.ask("GET", "/api/project", Host=f"{host}:{live.port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:{port}.evil.com"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_sites_can_neither_read_nor_write(live: Live, headers: dict[str, str]) -> None:
    before = live.fingerprint()
    sent = {name: value.format(port=live.port) for name, value in headers.items()}
    for method, path in live.routes():
        if path == "/open" and "Origin" not in sent:
            continue  # a link may be clicked anywhere; it needs its token
        status, body, answered = live.ask(method, path, **sent)
        assert status == 403, (method, path)
        assert b"photo" not in body
        assert not [name for name in answered if name.lower().startswith("access-control")]
    assert live.fingerprint() == before


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_writing_needs_the_header_that_forms_cannot_send(live: Live, method: str) -> None:
    for its, path in live.routes():
        if its == method:
            assert live.ask(method, path, X_Finicky="")[0] == 403
            assert live.ask(method, path, X_Finicky="0")[0] == 403


def test_reading_changes_nothing(live: Live) -> None:
    before = live.fingerprint()
    for method, path in live.routes():
        if method in ("GET", "HEAD"):
            live.ask(method, path)
    assert live.fingerprint() == before


def _payloads() -> list[str]:
    ups = [
        "../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%252f", "%252e%252e%252f", "..\\", "..%5c",
        "%2e%2e%5c", "..%255c", "..;/", "..%00/", "%c0%ae%c0%ae/", "%c0%ae%c0%ae%c0%af",
        "..%c0%af", "..%ef%bc%8f", "..%e2%88%95", ".%2e/", "%2e./", "....//", "..../", ".../",
    ]  # fmt: skip
    found = [up * times + "secret.png" for up in ups for times in (1, 3)]
    found += [
        "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "file:///etc/passwd", "C:\\Windows\\x",
        "C:/Windows/x", "C%3a%5cx", "\\\\host\\share\\x", "%5c%5chost%5cshare", "\\\\?\\C:\\x",
        "~/secret.png", "%7e/secret.png", "secret.png%00.js", "main.js%00", "main.js/../x",
        "main.js%2f..%2f..%2fserver.py", "a" * 5000, "%", "%zz", "CON", "photo%200.png",
        ".", "..", "%20", "*", "%3f", "main.js::$DATA", "\u202e".encode().hex(),
    ]  # fmt: skip
    return found


@pytest.mark.parametrize(
    "template",
    [
        "/static/{}", "/api/photos/{}/mask", "/api/photos/{}/thumbnail", "/api/photos/{}/version",
        "/api/photos/{}/tile/0/0/0", "/api/photos/{}/proposal", "/{}", "/api/photos/{}",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_project(live: Live, template: str) -> None:
    payloads = _payloads()
    assert len(payloads) >= 60
    for payload in payloads:
        path = template.format(payload).replace(" ", "%20")
        if not path.isascii():
            continue
        try:
            status, body, _ = live.ask("GET", path)
        except (http.client.HTTPException, OSError):
            continue  # the server closed on a malformed request line
        assert status in (400, 403, 404), (path, status)
        assert SECRET.encode() not in body
        assert b"root:" not in body
        assert str(live.place.root.parent).encode() not in body


def test_a_link_out_of_the_folder_is_no_photo(tmp_path: Path) -> None:
    place = make_project(tmp_path / "p")
    outside = tmp_path / "outside.png"
    outside.write_bytes(next(place.photos.iterdir()).read_bytes())
    (place.photos / "link.png").symlink_to(outside)
    assert "link.png" not in [photo.key for photo in place.scan()]


def test_a_link_opens_the_labeler_once(live: Live) -> None:
    token = live.keys.new_link()
    status, _, headers = live.ask("GET", f"/open?token={token}", cookie=False)
    assert status == 303
    cookie = headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token not in headers["location"]
    assert live.ask("GET", f"/open?token={token}", cookie=False)[0] == 401
    assert live.ask("GET", "/open?token=", cookie=False)[0] == 401


def test_every_answer_carries_the_security_headers(live: Live) -> None:
    for cookie in (True, False):
        for path in ("/", "/static/main.js", "/api/project", "/nowhere"):
            _, _, headers = live.ask("GET", path, cookie=cookie)
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


def _stroke_headers(**others: str) -> dict[str, str]:
    return {
        "X_Finicky_Session": "session-a",
        "X_Finicky_Seq": "1",
        "X_Finicky_Base": "",
        **others,
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Finicky_Seq": "x"},
        {"X_Finicky_Seq": "-1"},
        {"X_Finicky_Session": "../../x"},
        {"X_Finicky_Session": "a"},
        {"X_Finicky_Base": "../x"},
    ],
)
def test_odd_stroke_headers_are_refused(live: Live, headers: dict[str, str]) -> None:
    before = live.fingerprint()
    status, _, _ = live.ask("PUT", f"/api/photos/{live.photo}/mask", **_stroke_headers(**headers))
    assert status == 400
    assert live.fingerprint() == before


def test_a_body_that_is_too_large_is_refused(live: Live) -> None:
    before = live.fingerprint()
    path = f"/api/photos/{live.photo}"
    big = np.zeros(65_000, np.uint8).tobytes()
    assert live.ask("PUT", f"{path}/state", body=big)[0] == 400
    assert live.fingerprint() == before
    for body in (b"[]", b"{", b'{"status": "gone"}', b'{"note": 3}'):
        assert live.ask("PUT", f"{path}/state", body=body)[0] == 400


def test_slow_connections_do_not_block_the_others(live: Live) -> None:
    waiting = []
    for _ in range(100):
        slow = socket.create_connection(("127.0.0.1", live.port))
        slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
        waiting.append(slow)
    started = time.monotonic()
    assert live.ask("GET", "/api/project")[0] == 200
    took = time.monotonic() - started
    for slow in waiting:
        slow.close()
    assert took < 2


def test_a_project_keeps_its_port(tmp_path: Path) -> None:
    """Strokes that a browser still holds belong to the address they were drawn at."""
    place = make_project(tmp_path / "p")
    first = bind(place, ServerOptions())
    port = first.getsockname()[1]
    remember(place, port=port)
    with pytest.raises(DataError, match="another --port"):
        bind(place, ServerOptions())
    first.close()
    again = bind(place, ServerOptions())
    assert again.getsockname()[1] == port
    again.close()


def test_other_addresses_need_to_be_asked_for() -> None:
    check_address(ServerOptions())
    with pytest.raises(UsageError, match="--allow-remote"):
        check_address(ServerOptions(host="192.168.1.20"))
    with pytest.raises(UsageError, match="name the one"):
        check_address(ServerOptions(host="0.0.0.0", allow_remote=True))
    check_address(ServerOptions(host="192.168.1.20", allow_remote=True))
