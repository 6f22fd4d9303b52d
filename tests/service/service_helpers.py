"""A running page around the tiny model of the edge tests, spoken to byte by byte."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from edge.edge_helpers import dark_bundle
from finicky.edge import open_bundle
from finicky.service import Inspector, Limits, make_app
from finicky.web import Keys, bound, cookie_name


def wall(*, width: int = 100, height: int = 70) -> np.ndarray:
    """Light grey with a dark bar of 40 by 8 px at (20, 24)."""
    rgb = np.full((height, width, 3), 210, np.uint8)
    rgb[24:32, 20:60] = 10
    return rgb


def png(rgb: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, format="PNG")
    return stream.getvalue()


class Live:
    """The page in this process; `close` stops it."""

    def __init__(self, folder: Path, limits: Limits | None = None, **options: Any) -> None:
        bundle = open_bundle(dark_bundle(folder / "bundle"))
        self.inspector = Inspector(bundle, limits=limits or Limits(), **options)
        self.listener = bound("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.keys = Keys()
        self.app = make_app(self.inspector, keys=self.keys, port=self.port)
        config = uvicorn.Config(
            self.app, log_level="error", access_log=False, lifespan="on", ws="none"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.cookie = self.keys.redeem(self.keys.new_link())

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.listener.close()

    def link(self) -> str:
        return f"http://127.0.0.1:{self.port}/open?token={self.keys.new_link()}"

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
        """One request; headers by keyword replace the good ones."""
        sent = {"Host": f"127.0.0.1:{self.port}"}
        if cookie:
            sent["Cookie"] = f"{cookie_name(self.port)}={self.cookie}"
        if method in ("POST", "PUT"):
            sent["X-Finicky"] = "1"
        sent["Content-Length"] = str(len(body))
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in [*sent.items(), *raw]:
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, answer.headers

    def post(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        status, content, _ = self.ask("POST", "/api/photos", body=body, **headers)
        return status, json.loads(content)

    def routes(self) -> list[tuple[str, str]]:
        """Every route with a method that it takes, for a result that exists."""
        _, found = self.post(png(wall()))
        made = []
        for route in self.app._app.routes:
            path = route.path.replace("{name}", "main.js").replace("{kind}", "overlay")
            path = path.replace("{result}", found["id"])
            made += [(method, path) for method in sorted(route.methods)]
        return made

    def slow(self, start: bytes) -> socket.socket:
        """A connection that has sent only the start of a request."""
        line = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        line.sendall(start)
        return line
