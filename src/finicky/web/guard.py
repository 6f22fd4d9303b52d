"""Who may talk to the server: one person's browser on this machine, and nobody else.

Any web page can send requests to a loopback port, and a name that an attacker owns can be made to
point at 127.0.0.1 (DNS rebinding). So a request must carry our cookie, name us as its host, and
come from our own page. Everything is refused unless it passes all checks; there is no list of
protected routes to forget one on.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATH = "/open"
WRITE_HEADER = b"x-finicky"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        b"connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Keys:
    """The links that open the page once each, and the cookies that they were changed for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: set[str] = set()
        self._cookies: set[str] = set()

    def new_link(self) -> str:
        """A token of 256 bits that works once."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._links.add(token)
        return token

    def redeem(self, token: str) -> str | None:
        """The cookie for a token, which is used up by it; ``None`` for an unknown token."""
        with self._lock:
            match = _find(token, self._links)
            if match is None:
                return None
            self._links.discard(match)
            cookie = secrets.token_urlsafe(32)
            self._cookies.add(cookie)
            return cookie

    def knows(self, cookie: str) -> bool:
        """Whether this cookie was handed out."""
        with self._lock:
            return _find(cookie, self._cookies) is not None


class Guard:
    """ASGI middleware that lets through only what `finicky.web.guard` describes."""

    def __init__(
        self,
        app: App,
        *,
        keys: Keys,
        port: int,
        command: str,
        hosts: tuple[str, ...] = LOOPBACK,
    ) -> None:
        """``command`` is what prints the link, for those who come without one."""
        self._app = app
        self._keys = keys
        self._command = command
        self._cookie = cookie_name(port)
        self._hosts = frozenset(f"{host}:{port}".encode() for host in hosts)
        self._origins = frozenset(b"http://" + host for host in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the refused requests here, pass the others on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        sender = _hardened(send)
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, sender)
        else:
            await _refuse(sender, *refusal)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = scope["headers"]
        hosts = _all(headers, b"host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 403, "This server answers only to its own address."
        origins = _all(headers, b"origin")
        if any(origin.lower() not in self._origins for origin in origins):
            return 403, "Requests from other sites are refused."
        opening = scope["path"] == OPEN_PATH and scope["method"] == "GET"
        sites = _all(headers, b"sec-fetch-site")
        if any(site not in (b"same-origin", b"none") for site in sites) and not opening:
            return 403, "Requests from other sites are refused."
        if scope["method"] not in ("GET", "HEAD", "POST", "PUT"):
            return 405, "Method not allowed."
        if opening:
            return None  # carries its token; the route checks it
        if not self._keys.knows(_cookie(headers, self._cookie)):
            return 401, f"No access: open the link that {self._command} printed."
        if scope["method"] in ("POST", "PUT") and _all(headers, WRITE_HEADER) != [b"1"]:
            return 403, "Writing needs the server's own page."
        return None


def cookie_name(port: int) -> str:
    """Cookies are shared by all ports of a host, so the name tells servers apart."""
    return f"finicky_{port}"


def _find(value: str, known: set[str]) -> str | None:
    given = value.encode("utf-8", "replace")
    match = None
    for candidate in known:  # all of them, so that time tells nothing
        if secrets.compare_digest(candidate.encode(), given):
            match = candidate
    return match


def _all(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def _cookie(headers: list[tuple[bytes, bytes]], name: str) -> str:
    for value in _all(headers, b"cookie"):
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(value.decode("latin-1"))
        except CookieError:
            continue
        if name in jar:
            return jar[name].value
    return ""


def _hardened(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *SECURITY_HEADERS]
            if not any(key == b"cache-control" for key, _ in message["headers"]):
                message["headers"].append((b"cache-control", b"no-store"))
        await send(message)

    return sender


async def _refuse(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
