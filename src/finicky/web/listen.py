"""Where a local page listens, and how its server runs."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable
from typing import Protocol

from finicky.errors import DataError, UsageError
from finicky.web.guard import LOOPBACK, OPEN_PATH, App, Keys


class Address(Protocol):
    """The options of a server that say who can reach it."""

    @property
    def host(self) -> str:
        """Address to listen on."""

    @property
    def allow_remote(self) -> bool:
        """Whether ``host`` may be other than loopback."""


def check_address(address: Address) -> None:
    """Refuse to be reachable from other machines unless that was asked for by name."""
    if address.host in LOOPBACK:
        return
    if not address.allow_remote:
        raise UsageError(
            f"--host {address.host} lets other machines in; add --allow-remote if you want that"
        )
    if address.host in ("0.0.0.0", "::", ""):
        raise UsageError(
            f"--host {address.host!r} is every address at once; name the one that others use, "
            "such as 192.168.1.20"
        )


def answered_hosts(host: str) -> tuple[str, ...]:
    """The names in a request's ``Host`` that a server on ``host`` answers to."""
    return LOOPBACK if host in LOOPBACK else (*LOOPBACK, host)


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one.

    Raises:
        DataError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once only on sockets that know their protocol; on others, each
    # answer of two packets waits 40 ms for the client to acknowledge the first (Nagle, RFC 896).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Not on Windows, where it would let two servers share a port.
        if hasattr(socket, "SO_REUSEPORT"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(128)  # before the link is announced, so that it works at once
    except (OSError, OverflowError) as error:
        listener.close()
        raise DataError(
            f"cannot listen on {host}:{port}: {error}. Another program may have "
            "it; close that, or choose another --port."
        ) from error
    return listener


def run_app(
    app: App,
    listener: socket.socket,
    *,
    host: str,
    keys: Keys,
    links: int,
    open_browser: bool,
    announce: Callable[[str], None],
) -> None:
    """Serve until interrupted.

    Args:
        app: Guarded.
        listener: As `bound` made it.
        host: For the link.
        keys: Of the guard.
        links: How many to make, at least 1; each opens the page once.
        open_browser: Whether to open the page in the user's browser, by the first link.
        announce: Told each link, once it works.
    """
    import uvicorn

    port = listener.getsockname()[1]
    made = [f"http://{host}:{port}{OPEN_PATH}?token={keys.new_link()}" for _ in range(links)]
    # No access log: it would hold the token.
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        h11_max_incomplete_event_size=64_000,
        timeout_graceful_shutdown=3,
    )
    for link in made:
        announce(link)
    if open_browser:
        webbrowser.open(made[0])
    uvicorn.Server(config).run(sockets=[listener])
