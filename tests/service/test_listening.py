"""The listening socket."""

import asyncio
import socket

from musetalk_runtime.service.http.server import listen


def test_answers_are_not_held_back_for_more() -> None:
    """asyncio turns Nagle's algorithm off for sockets that say that they are TCP's: else an answer waits for 40 ms."""

    async def accepted() -> int:
        found: list[int] = []

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(answer, sock=listener):
                reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
                await reader.read()
                writer.close()
        return found[0]

    assert asyncio.run(accepted()) == 1
