"""Where local pages listen."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from finicky.web.listen import bound


def test_small_answers_are_sent_at_once() -> None:
    """Nagle's algorithm would hold the second packet of each answer back for 40 ms."""

    async def delays() -> int:
        asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def met(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken = writer.get_extra_info("socket")
            asked.set_result(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with bound("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            async with await asyncio.start_server(met, sock=listener):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                answer = await asked
                writer.close()
                await writer.wait_closed()
                return answer

    # Browser tests leave a loop running in this thread.
    with ThreadPoolExecutor(1) as other:
        assert other.submit(asyncio.run, delays()).result(timeout=30)
