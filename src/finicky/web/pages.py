"""The routes that every page of ours has: the link that opens it, the page, and its files."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from finicky.web.assets import assets_of
from finicky.web.guard import OPEN_PATH, Keys, cookie_name


def page_routes(files: str, *, keys: Keys, port: int, command: str) -> list[Route]:
    """Routes that `finicky.web.guard.Guard` must be in front of.

    Args:
        files: The package that holds the page's files, ``index.html`` among them.
        keys: Which links there are.
        port: Of the server, for the cookie's name.
        command: What prints the links.
    """

    async def opened(request: Request) -> Response:
        cookie = keys.redeem(request.query_params.get("token", ""))
        if cookie is None:
            return PlainTextResponse(
                f"This link was used before or is wrong. Run {command} again for a new one.", 401
            )
        response = RedirectResponse("/", 303)
        name = cookie_name(port)
        response.set_cookie(name, cookie, httponly=True, samesite="strict", path="/")
        return response

    async def index(_: Request) -> Response:
        return _asset(files, "index.html")

    async def static(request: Request) -> Response:
        return _asset(files, request.path_params["name"])

    return [
        Route(OPEN_PATH, opened, methods=["GET"]),
        Route("/", index, methods=["GET"]),
        Route("/static/{name}", static, methods=["GET"]),
    ]


def _asset(files: str, name: str) -> Response:
    """Names are compared, never made into paths."""
    found = assets_of(files).get(name)
    if found is None:
        return PlainTextResponse("Not found.", 404)
    return Response(found.content, media_type=found.media_type)
