"""What the page and programs may ask for. Results are named by id, files by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from finicky.errors import FinickyError, StorageError, UsageError
from finicky.service import static
from finicky.service.inspector import BusyError, Inspector, TookTooLongError
from finicky.web.guard import Keys
from finicky.web.pages import page_routes


@dataclass(frozen=True)
class Counter:
    """Everything the routes work with."""

    inspector: Inspector
    keys: Keys
    port: int


Work = Callable[[Counter, Request], Awaitable[Response]]


class TooLargeError(UsageError):
    """More bytes than one request may hold."""


class TooSlowError(UsageError):
    """A photo did not arrive in time."""


RETRY_S = "2"
# The first kind that fits decides.
_STATUS: tuple[tuple[type[FinickyError], int], ...] = (
    (BusyError, 503),
    (TookTooLongError, 503),
    (TooLargeError, 413),
    (TooSlowError, 408),
    (UsageError, 400),
)


def make_routes(counter: Counter) -> list[Route]:
    """All routes; each one is guarded by `finicky.web.guard.Guard`."""

    def route(path: str, work: Work, method: str = "GET") -> Route:
        return Route(path, _told(counter, work), methods=[method])

    return [
        *page_routes(
            static.__name__, keys=counter.keys, port=counter.port, command="finicky serve"
        ),
        route("/api/model", _model),
        route("/api/photos", _inspect, "POST"),
        route("/api/results/{result}/{kind}", _result),
    ]


def _told(counter: Counter, work: Work) -> Callable[[Request], Awaitable[Response]]:
    """The work with what it needs; every error of ours becomes JSON of one line."""

    async def answer(request: Request) -> Response:
        try:
            return await work(counter, request)
        except StorageError as error:  # its own text names a temporary file
            return JSONResponse({"error": f"no room for the results: {_cause(error)}"}, 507)
        except FinickyError as error:
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 422)
            # Only those that came too early should come again by themselves.
            again = {"retry-after": RETRY_S} if isinstance(error, BusyError) else None
            return JSONResponse({"error": " ".join(str(error).split())}, status, headers=again)
        except OSError as error:
            return JSONResponse({"error": f"no room for the photo: {_cause(error)}"}, 507)
        except MemoryError:
            return JSONResponse({"error": "there is not enough memory for the photo"}, 507)
        except ClientDisconnect:
            return Response(status_code=400)

    return answer


def _cause(error: Exception) -> str:
    """What the system says, without the file's name."""
    refused = error if isinstance(error, OSError) else error.__cause__
    return (isinstance(refused, OSError) and refused.strerror) or "it could not be written"


async def _model(counter: Counter, request: Request) -> Response:
    del request
    return JSONResponse(counter.inspector.about())


async def _inspect(counter: Counter, request: Request) -> Response:
    inspector = counter.inspector
    _refuse_length(request, inspector.limits.max_bytes)
    with inspector.turn() as path:
        try:
            async with asyncio.timeout(inspector.limits.upload_s):
                await _receive(request, path, inspector.limits.max_bytes)
        except TimeoutError as error:
            raise TooSlowError(
                f"the photo did not arrive within {inspector.limits.upload_s:g} s"
            ) from error
        return JSONResponse(await run_in_threadpool(inspector.inspect, path))


def _refuse_length(request: Request, limit: int) -> None:
    """Before a byte is read; what says nothing of its length is counted as it comes."""
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > limit:
        raise _too_large(limit)


async def _receive(request: Request, path: Path, limit: int) -> None:
    size = 0
    with path.open("wb") as stream:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            await run_in_threadpool(stream.write, part)
    if not size:
        raise UsageError("no photo came: send its bytes as the body of the request")


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the file is larger than {limit / 1e6:g} MB: save it as JPEG, or cut it")


async def _result(counter: Counter, request: Request) -> Response:
    place = request.path_params
    found = await run_in_threadpool(counter.inspector.result, place["result"], place["kind"])
    if found is None:
        return JSONResponse({"error": "no such result: older ones are deleted"}, 404)
    content, file, media_type = found
    shown = "inline" if media_type.startswith("image/") else "attachment"
    # Not to be cached: results are gone when the server stops, from the browser's disk too.
    headers = {"content-disposition": f'{shown}; filename="{file}"'}
    return Response(content, media_type=media_type, headers=headers)
