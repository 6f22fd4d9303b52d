"""The labeler as a program: a guarded app, a socket on this machine, a browser."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool

from finicky.labeler.owner import last_port, remember, sole_owner
from finicky.labeler.pictures import Pictures
from finicky.labeler.proposals.proposer import Proposer
from finicky.labeler.routes import Desk, make_routes
from finicky.labeler.states import States
from finicky.labeler.store import MaskStore
from finicky.labeler.workplace import Workplace
from finicky.web.guard import LOOPBACK, App, Guard, Keys
from finicky.web.listen import answered_hosts, bound, check_address, run_app


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

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        desk.proposer.photo_done()  # those of earlier sessions
        yield
        await run_in_threadpool(desk.proposer.close)

    app = Starlette(routes=make_routes(desk), lifespan=lifespan)
    hosts = answered_hosts(options.host)
    return Guard(app, keys=keys, port=port, command="finicky label", hosts=hosts)


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
    check_address(options)
    with sole_owner(workplace):
        listener = bind(workplace, options)
        port = listener.getsockname()[1]
        remember(workplace, port=port)
        keys = Keys()
        app = make_app(workplace, keys=keys, port=port, options=options)
        run_app(
            app,
            listener,
            host=options.host,
            keys=keys,
            links=1 if options.host in LOOPBACK else 2,  # one for here, one for the tablet
            open_browser=open_browser,
            announce=announce,
        )


def bind(workplace: Workplace, options: ServerOptions) -> socket.socket:
    """A listening socket: on the wanted port, on the project's last one, or, at first, on any.

    Raises:
        DataError: That port is taken.
    """
    if options.port is not None:
        return bound(options.host, options.port)
    return bound(options.host, last_port(workplace) or 0)
