"""An encoder process (``python -m musetalk_runtime.output.processes.main CONTROL MEMORY SIZE``).

CONTROL is a socket that hands over a session's socket with each byte, MEMORY the descriptor of SIZE bytes of shared
memory that frames lie in. Sessions are encoded in turn, in one thread. It ends when CONTROL does.
"""

import asyncio
import mmap
import socket
import sys
from fractions import Fraction

import av
import numpy as np

from musetalk_runtime.core.arrays import Bytes
from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.frame import Frame
from musetalk_runtime.output.muxer import BEGINNING, Muxer
from musetalk_runtime.output.pieces import Pieces
from musetalk_runtime.output.processes.encoder_process import READY
from musetalk_runtime.output.processes.messages import END, LENGTH, NOT_SHARED, REQUEST, Opening, Reply
from musetalk_runtime.output.video import AccessUnit


async def serve(control: socket.socket, memory: mmap.mmap) -> None:
    """Encode the sessions that come by `control`, until it ends."""
    loop = asyncio.get_running_loop()
    gone = loop.create_future()
    tasks: set[asyncio.Task[None]] = set()

    def accept() -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        except ConnectionResetError:  # the service has ended with something unread
            data, descriptors = b"", []
        for descriptor in descriptors:
            task = loop.create_task(_session(socket.socket(fileno=descriptor), memory))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if not data and not gone.done():
            gone.set_result(None)

    loop.add_reader(control, accept)
    control.send(READY)
    await gone


async def _session(connection: socket.socket, memory: mmap.mmap) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        await _encode(reader, writer, memory)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the session has ended
    except (MuseTalkEdgeError, av.FFmpegError, ValueError) as error:
        writer.write(Reply(one_line(error).encode(), BEGINNING, well=False).to_bytes())
    finally:
        writer.close()


async def _encode(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, memory: mmap.mmap) -> None:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    opening = Opening.from_bytes(await reader.readexactly(length))
    picture, pieces = opening.picture, Pieces()
    shape = picture.height * 3 // 2, picture.width
    units: list[AccessUnit] = []
    with Muxer(pieces, opening.container, picture, opening.channels, opening.options, start=opening.start) as muxer:
        writer.write(Reply(pieces.take(), muxer.unwritten).to_bytes())
        while True:
            request = REQUEST.unpack(await reader.readexactly(REQUEST.size))
            kind, more, keyframe, index, place, size, samples, kbps = request
            inline = await reader.readexactly(size)
            sound = np.frombuffer(await reader.readexactly(4 * opening.channels * samples), np.float32)
            sound = sound.reshape(opening.channels, samples)
            if kind == END:
                muxer.sound(sound)
                break
            nv12 = _frame(inline if place == NOT_SHARED else memory, max(0, place), shape)
            units += muxer.put(Frame(index, Fraction(index) / picture.fps, nv12, sound), keyframe, kbps or None)
            if not more:
                writer.write(Reply(pieces.take(), muxer.unwritten, units).to_bytes())
                await writer.drain()
                units = []
    writer.write(Reply(pieces.take(), muxer.unwritten).to_bytes())
    await writer.drain()


def _frame(memory: bytes | mmap.mmap, place: int, shape: tuple[int, int]) -> Bytes:
    return np.frombuffer(memory, np.uint8, shape[0] * shape[1], place).reshape(shape)


def main() -> None:
    control, memory, size = map(int, sys.argv[1:])
    with socket.socket(fileno=control) as connection, mmap.mmap(memory, size, mmap.MAP_SHARED) as mapped:
        connection.setblocking(False)
        asyncio.run(serve(connection, mapped))


if __name__ == "__main__":
    main()
