"""What a request may carry, and how an answer is made of the page's files."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from finicky.errors import UsageError

MAX_JSON_BYTES = 64_000


async def read_body(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is longer than ``limit`` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise UsageError(f"a request may hold {limit} bytes at most")
        parts.append(part)
    return b"".join(parts)


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object."""
    body = await read_body(request, MAX_JSON_BYTES)
    try:
        value = json.loads(body)
    except ValueError as error:
        raise UsageError("expected JSON") from error
    if not isinstance(value, dict):
        raise UsageError("expected a JSON object")
    return value
