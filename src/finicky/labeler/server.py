"""The labeler as a program: a guarded app, a socket on this machine, a browser."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool

from finicky.errors import DataError, UsageError
from finicky.labeler.guard import LOOPBACK, OPEN_PATH, App, Guard, Keys
from finicky.labeler.owner import last_port, remember, sole_owner
from finicky.labeler.pictures import Pictures
from finicky.labeler.proposals.proposer import Proposer
from finicky.labeler.routes import Desk, make_routes
from finicky.labeler.states import States
from finicky.labeler.store import MaskStore
from finicky.labeler.workplace import Workplace


@dataclass(frozen=True)
class ServerOptions:
    """Where the labeler listens and how it starts.

    Attributes:
        host: Address to listen on.
        port: Port, or ``None`` for the project's own: the one it had last time, so that strokes
            which a browser still keeps for it find their way home.
        allow_remote: Whether ``host`` may be other than loopback.
        backbone: Name of the network whose filters help to propose; empty for none.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    allow_remote: bool = False
    backbone: str = ""


def make_app(workplace: Workplace, *, keys: Keys, port: int, options: ServerOptions) -> App:
    """The guarded ASGI app of one project.

    Raises:
        UsageError, DataError: The photos folder is missing or empty.
    """
    photos = workplace.scan()
    pictures, states = Pictures(), States(workplace)
    store = MaskStore(workplace, photos)
    desk = Desk(
        workplace=workplace,
        photos={photo.id: photo for photo in photos},
        store=store,
        states=states,
        pictures=pictures,
        proposer=Proposer(workplace, photos, store, states, pictures, backbone=options.backbone),
        keys=keys,
        port=port,
    )
    hosts = LOOPBACK if options.host in LOOPBACK else (*LOOPBACK, options.host)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        desk.proposer.photo_done()  # those of earlier sessions
        yield
        await run_in_threadpool(desk.proposer.close)

    app = Starlette(routes=make_routes(desk), lifespan=lifespan)
    return Guard(app, keys=keys, port=port, hosts=hosts)


def serve(
    workplace: Workplace,
    options: ServerOptions,
    *,
    open_browser: bool = True,
    announce: Callable[[str], None],
) -> None:
    """Run the labeler until it is interrupted.

    Args:
        workplace: The project.
        options: Where to listen.
        open_browser: Whether to open the page in the user's browser.
        announce: Told the link that opens the page, once the port is bound; for an address that
            other machines reach it is told two.

    Raises:
        UsageError: The address is not loopback and that was not allowed.
        DataError: The address cannot be listened on, or another labeler has this project open.
    """
    check_host(options)
    with sole_owner(workplace):
        _serve(workplace, options, open_browser=open_browser, announce=announce)


def _serve(
    workplace: Workplace,
    options: ServerOptions,
    *,
    open_browser: bool,
    announce: Callable[[str], None],
) -> None:
    import uvicorn

    listener = bind(workplace, options)
    port = listener.getsockname()[1]
    remember(workplace, port=port)
    keys = Keys()
    app = make_app(workplace, keys=keys, port=port, options=options)

    def new_link() -> str:
        return f"http://{options.host}:{port}{OPEN_PATH}?token={keys.new_link()}"

    link = new_link()
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
    announce(link)
    if options.host not in LOOPBACK:
        announce(new_link())  # each works once: one for here, one for the tablet
    if open_browser:
        webbrowser.open(link)
    uvicorn.Server(config).run(sockets=[listener])


def check_host(options: ServerOptions) -> None:
    """Refuse to be reachable from other machines unless that was asked for by name."""
    if options.host in LOOPBACK:
        return
    if not options.allow_remote:
        raise UsageError(
            f"--host {options.host} lets other machines in; add --allow-remote if you want that"
        )
    if options.host in ("0.0.0.0", "::", ""):
        raise UsageError(
            f"--host {options.host!r} is every address at once; name the one that the tablet uses, "
            "such as 192.168.1.20"
        )


def bind(workplace: Workplace, options: ServerOptions) -> socket.socket:
    """A listening socket: on the wanted port, on the project's last one, or, at first, on any.

    Raises:
        DataError: That port is taken.
    """
    if options.port is not None:
        return _bound(options.host, options.port)
    return _bound(options.host, last_port(workplace) or 0)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
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
