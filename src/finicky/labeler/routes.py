"""What the page may ask for. Photos are named by id, files by nobody."""

from __future__ import annotations

import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from finicky._version import __version__
from finicky.errors import FinickyError, ImageError, UsageError
from finicky.labeler import patches, static
from finicky.labeler.pictures import Pictures
from finicky.labeler.proposals.proposer import Box, Proposer
from finicky.labeler.states import States
from finicky.labeler.store import Author, ConflictError, MaskStore, StoredMask
from finicky.labeler.workplace import Photo, Workplace
from finicky.web.guard import Keys
from finicky.web.pages import page_routes
from finicky.web.requests import read_body, read_json

# A batch of strokes, to which comes what a single one may take: a run of 4 bytes for each pixel.
MAX_BATCH_BYTES = 16_000_000
BYTES_PER_PIXEL = 5
_SESSION = re.compile(r"[A-Za-z0-9-]{8,64}")
_VERSION = re.compile(r"[0-9a-f]{0,64}")

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Desk:
    """Everything the routes work with."""

    workplace: Workplace
    photos: dict[str, Photo]
    store: MaskStore
    states: States
    pictures: Pictures
    proposer: Proposer
    keys: Keys
    port: int


def make_routes(desk: Desk) -> list[Route]:
    """All routes; each one is guarded by `finicky.web.guard.Guard`."""

    def get(path: str, handler: Callable[[Desk, Request], Awaitable[Response]]) -> Route:
        return Route(path, _told(desk, handler), methods=["GET"])

    def put(path: str, handler: Callable[[Desk, Request], Awaitable[Response]]) -> Route:
        return Route(path, _told(desk, handler), methods=["PUT"])

    def post(path: str, handler: Callable[[Desk, Request], Awaitable[Response]]) -> Route:
        return Route(path, _told(desk, handler), methods=["POST"])

    photo = "/api/photos/{photo}"
    return [
        *page_routes(static.__name__, keys=desk.keys, port=desk.port, command="finicky label"),
        get("/api/project", _project),
        get(photo + "/tile/{level:int}/{column:int}/{row:int}", _tile),
        get(photo + "/grey/{column:int}/{row:int}", _grey),
        get(photo + "/thumbnail", _thumbnail),
        get(photo + "/mask", _mask),
        get(photo + "/version", _version),
        put(photo + "/mask", _save),
        post(photo + "/conflict", _conflict),
        put(photo + "/state", _state),
        get("/api/proposals", _proposals),
        get(photo + "/proposal", _proposal),
    ]


def _told(desk: Desk, handler: Callable[[Desk, Request], Awaitable[Response]]) -> Handler:
    """The handler with its desk; every error of ours becomes JSON that the page can show."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(desk, request)
        except ConflictError as error:
            return JSONResponse({"error": str(error), **_facts(error.current)}, 409)
        except FinickyError as error:
            return JSONResponse({"error": _relative(desk, str(error))}, _status(error))
        except OSError as error:  # before a file is even begun: a folder that is gone or locked
            return JSONResponse({"error": f"could not save: {error.strerror}"}, 507)
        except MemoryError:
            return JSONResponse({"error": "there is not enough memory"}, 507)
        except ClientDisconnect:  # the tab was closed in the middle of a request
            return Response(status_code=400)

    return answer


def _status(error: FinickyError) -> int:
    if isinstance(error, UsageError):
        return 400
    if isinstance(error, ImageError):  # however it came about, no waiting helps
        return 422
    return 507 if isinstance(error.__cause__, OSError) else 422


def _relative(desk: Desk, text: str) -> str:
    """The text with paths of the project instead of paths of this computer."""
    place = desk.workplace
    for folder, short in ((place.photos, "photos"), (place.root, ".")):
        for path in (str(folder.resolve()), str(folder)):
            text = text.replace(path, short)
    return text


def _photo(desk: Desk, request: Request) -> Photo:
    photo = desk.photos.get(request.path_params["photo"])
    if photo is None:
        raise UsageError("no such photo in this project")
    if photo.problem:
        raise UsageError(photo.problem)
    return photo


async def _project(desk: Desk, request: Request) -> Response:
    del request
    return JSONResponse(await run_in_threadpool(_project_value, desk))


def _project_value(desk: Desk) -> dict[str, Any]:
    return {
        "id": desk.workplace.id,
        "name": desk.workplace.root.resolve().name,
        "version": __version__,
        "classes": [
            {"id": c.id, "name": c.name, "color": c.color, "key": c.key, "role": c.role}
            for c in desk.workplace.classes
        ],
        "photos": [_photo_value(desk, photo) for photo in desk.photos.values()],
    }


def _photo_value(desk: Desk, photo: Photo) -> dict[str, Any]:
    state = desk.states.get(photo)
    return {
        "id": photo.id,
        "key": photo.key,
        "width": photo.width,
        "height": photo.height,
        "problem": _relative(desk, photo.problem),
        "status": state.status,
        "note": state.note,
        "masked": desk.store.path(photo).exists(),
    }


async def _tile(desk: Desk, request: Request) -> Response:
    place = request.path_params
    cut = partial(desk.pictures.tile, _photo(desk, request))
    content = await run_in_threadpool(cut, place["level"], place["column"], place["row"])
    return Response(content, media_type="image/jpeg", headers=_KEEP_AN_HOUR)


async def _grey(desk: Desk, request: Request) -> Response:
    place = request.path_params
    cut = partial(desk.pictures.grey, _photo(desk, request))
    return _bytes(await run_in_threadpool(cut, place["column"], place["row"]), _KEEP_AN_HOUR)


async def _thumbnail(desk: Desk, request: Request) -> Response:
    content = await run_in_threadpool(desk.pictures.thumbnail, _photo(desk, request))
    return Response(content, media_type="image/jpeg", headers=_KEEP_AN_HOUR)


async def _mask(desk: Desk, request: Request) -> Response:
    stored = await run_in_threadpool(desk.store.load, _photo(desk, request))
    content = await run_in_threadpool(patches.encode, stored.ids)
    return _bytes(content, {f"x-finicky-{k}": str(v) for k, v in _facts(stored).items()})


async def _version(desk: Desk, request: Request) -> Response:
    stored = await run_in_threadpool(desk.store.load, _photo(desk, request))
    return JSONResponse(_facts(stored))


async def _save(desk: Desk, request: Request) -> Response:
    photo = _photo(desk, request)
    author = _author(request)
    body = await read_body(request, _most_bytes(photo))
    stored = await run_in_threadpool(desk.store.save, photo, body, author)
    state = desk.states.get(photo)
    if state.status == "todo":
        state = await run_in_threadpool(desk.states.update, photo, status="in_progress")
    return JSONResponse({**_facts(stored), "status": state.status})


async def _conflict(desk: Desk, request: Request) -> Response:
    photo = _photo(desk, request)
    session = _matching(request.headers.get("x-finicky-session", ""), _SESSION)
    whole = request.query_params.get("whole") == "1"
    body = await read_body(request, _most_bytes(photo))
    keep = partial(desk.store.keep_copy, whole=whole, name=session[:8])
    path = await run_in_threadpool(keep, photo, body)
    return JSONResponse({"kept": path.relative_to(desk.workplace.root).as_posix()})


async def _state(desk: Desk, request: Request) -> Response:
    photo = _photo(desk, request)
    value = await read_json(request)
    status, note = value.get("status"), value.get("note")
    if not isinstance(status, str | None) or not isinstance(note, str | None):
        raise UsageError("status and note must be text")
    change = partial(desk.states.update, photo, status=status, note=note)
    state = await run_in_threadpool(change)
    if status == "done":
        desk.proposer.photo_done()
    return JSONResponse({"status": state.status, "note": state.note})


async def _proposals(desk: Desk, request: Request) -> Response:
    del request
    return JSONResponse(desk.proposer.standing())


async def _proposal(desk: Desk, request: Request) -> Response:
    photo = _photo(desk, request)
    try:
        sides = [int(request.query_params[name]) for name in ("x", "y", "width", "height")]
    except (KeyError, ValueError) as error:
        raise UsageError("a proposal needs x, y, width and height in px") from error
    found = await run_in_threadpool(desk.proposer.propose, photo, Box(*sides))
    return _bytes(found.score.tobytes() + found.classes.tobytes())


_KEEP_AN_HOUR = {"cache-control": "private, max-age=3600"}


def _bytes(content: bytes, headers: dict[str, str] | None = None) -> Response:
    packed = zlib.compress(content, 1)
    return Response(
        packed,
        media_type="application/octet-stream",
        headers={**(headers or {}), "content-encoding": "deflate"},
    )


def _facts(stored: StoredMask) -> dict[str, Any]:
    author = stored.author
    return {
        "version": stored.version,
        "revision": stored.revision,
        "session": author.session,
        "seq": author.seq,
    }


def _author(request: Request) -> Author:
    headers = request.headers
    try:
        seq = int(headers.get("x-finicky-seq", ""))
    except ValueError as error:
        raise UsageError("a stroke needs its number") from error
    if not 0 < seq < 2**53:
        raise UsageError("a stroke needs its number")
    return Author(
        _matching(headers.get("x-finicky-session", ""), _SESSION),
        seq,
        _matching(headers.get("x-finicky-base", ""), _VERSION),
    )


def _matching(value: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(value):
        raise UsageError("a stroke must say on which page and mask it was drawn")
    return value


def _most_bytes(photo: Photo) -> int:
    return MAX_BATCH_BYTES + BYTES_PER_PIXEL * photo.width * photo.height
