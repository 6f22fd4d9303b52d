"""The page as a program: a guarded app, a socket on this machine, a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool

from finicky.errors import UsageError
from finicky.service.inspector import Inspector
from finicky.service.routes import Counter, make_routes
from finicky.web.guard import App, Guard, Keys
from finicky.web.listen import answered_hosts, bound, check_address, run_app


@dataclass(frozen=True)
class ServiceOptions:
    """Where the page listens.

    Attributes:
        host: Address to listen on.
        port: Port; 0 is any free one.
        allow_remote: Whether ``host`` may be other than loopback.
        links: Links to hand out, each for one browser or program.
    """

    host: str = "127.0.0.1"
    port: int = 0
    allow_remote: bool = False
    links: int = 2

    def check(self) -> None:
        """Refuse what is out of range with a `UsageError`."""
        check_address(self)
        if not 1 <= self.links <= 100:
            raise UsageError(f"links must be from 1 to 100, got {self.links}")
        if not 0 <= self.port < 65536:
            raise UsageError(f"the port must be from 0 to 65535, got {self.port}")


def make_app(inspector: Inspector, *, keys: Keys, port: int, host: str = "127.0.0.1") -> App:
    """The guarded ASGI app of one bundle."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(inspector.close)

    counter = Counter(inspector, keys, port)
    app = Starlette(routes=make_routes(counter), lifespan=lifespan)
    hosts = answered_hosts(host)
    return Guard(app, keys=keys, port=port, command="finicky serve", hosts=hosts)


def serve(
    inspector: Inspector,
    options: ServiceOptions = ServiceOptions(),
    *,
    open_browser: bool = True,
    announce: Callable[[str], None],
) -> None:
    """Answer until interrupted; then nothing of photos and results is left.

    Args:
        inspector: With its bundle.
        options: Where to listen.
        open_browser: Whether to open the page in the user's browser.
        announce: Told each link; each opens the page once.

    Raises:
        UsageError: The address is not loopback and that was not allowed.
        DataError: The address cannot be listened on.
    """
    try:
        options.check()
        listener = bound(options.host, options.port)
        port = listener.getsockname()[1]
        keys = Keys()
        app = make_app(inspector, keys=keys, port=port, host=options.host)
        run_app(
            app,
            listener,
            host=options.host,
            keys=keys,
            links=options.links,
            open_browser=open_browser,
            announce=announce,
        )
    finally:
        inspector.close()
