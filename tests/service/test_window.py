"""The window of a stream and its readers."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from musetalk_runtime.service.delivery import reader as reader_module
from musetalk_runtime.service.delivery.fragments import Fragment
from musetalk_runtime.service.delivery.reader import Reader, Slow
from musetalk_runtime.service.delivery.window import Window
from musetalk_runtime.service.errors import FellBehind, StreamFailed

INIT = b"init"
SIZE = 10


def fragment(number: int) -> Fragment:
    """A tenth of a second of 10 bytes, every tenth begins with a keyframe."""
    data = f"{number:010}".encode()
    return Fragment(number, len(INIT) + (number - 1) * SIZE, (number - 1) / 10, number % 10 == 1, data)


def run(test: Callable[[Window], Awaitable[None]], filled: int = 0, seconds: float = 2.95, size: int = 1 << 20) -> None:
    async def main() -> None:
        window = Window(asyncio.get_running_loop(), seconds, size)
        if filled:
            window.begin(INIT)
            for number in range(1, filled + 1):
                window.append(fragment(number))
        await asyncio.wait_for(test(window), 60)

    asyncio.run(main())


async def numbers(reader: Reader) -> list[int]:
    found = []
    while (data := await reader.read()) is not None:
        found += [int(data[at : at + SIZE]) for at in range(0, len(data), SIZE)]
    return found


def test_only_the_newest_is_held() -> None:
    async def by_time(window: Window) -> None:
        assert [n for n in range(1, 60) if window.get(n)] == list(range(25, 56))

    async def by_size(window: Window) -> None:
        assert [n for n in range(1, 60) if window.get(n)] == [54, 55]

    run(by_time, 55)
    run(by_size, 55, size=25)


def test_a_reader_joins_at_the_newest_keyframe() -> None:
    async def test(window: Window) -> None:
        reader = Reader(window)
        assert await reader.join()
        assert reader.offset == len(INIT) + 50 * SIZE
        window.append(fragment(56))
        window.end()
        assert await reader.read() == INIT
        assert await numbers(reader) == [51, 52, 53, 54, 55, 56]

    run(test, 55)


def test_a_reader_of_the_first_fragment_waits_for_its_place_in_the_stream() -> None:
    async def test(window: Window) -> None:
        reader = Reader(window)
        seeking = asyncio.ensure_future(reader.seek(1))
        await asyncio.sleep(0)
        window.begin(INIT)
        await seeking
        assert reader.offset == len(INIT)
        window.append(fragment(1))
        window.end()
        assert await numbers(reader) == [1]

    run(test)


def test_readers_get_all_that_a_thread_writes_and_its_end() -> None:
    async def test(window: Window) -> None:
        def write() -> None:
            window.begin(INIT)
            for number in range(1, 1001):
                window.append(fragment(number))
            window.end()

        async def read() -> list[int]:
            reader = Reader(window)
            assert await reader.join()
            assert await reader.read() == INIT
            return await numbers(reader)

        thread = threading.Thread(target=write)
        readers = [asyncio.ensure_future(read()) for _ in range(3)]
        await asyncio.sleep(0)
        thread.start()
        for found in await asyncio.gather(*readers):
            assert found == list(range(found[0], 1001))
        thread.join()

    run(test, seconds=1000)


def test_an_error_reaches_every_reader_after_what_was_made() -> None:
    async def test(window: Window) -> None:
        late, reading = Reader(window), Reader(window)
        await reading.seek(55)
        joining = asyncio.ensure_future(numbers(reading))
        await asyncio.sleep(0)
        window.end("the engine is gone")
        with pytest.raises(StreamFailed, match="the engine is gone"):
            await joining
        assert await late.join()
        assert await late.read() == INIT
        assert await late.read() == b"".join(fragment(number).data for number in range(51, 56))
        with pytest.raises(StreamFailed, match="the engine is gone"):
            await late.read()

    async def before_the_first(window: Window) -> None:
        joining = asyncio.ensure_future(Reader(window).join())
        await asyncio.sleep(0)
        window.end("the engine is gone")
        with pytest.raises(StreamFailed, match="the engine is gone"):
            await joining

    run(test, 55)
    run(before_the_first)


def test_a_reader_goes_on_where_it_was() -> None:
    async def test(window: Window) -> None:
        whole = INIT + b"".join(fragment(number).data for number in range(1, 56))
        window.end()
        for offset in (len(INIT) + 250, len(INIT) + 255, len(whole) - 1, len(whole)):
            reader = Reader(window)
            await reader.seek_byte(offset)
            rest = b""
            while (data := await reader.read()) is not None:
                rest += data
            assert rest == whole[offset:]
        reader = Reader(window)
        await reader.seek(40)
        assert (reader.offset, await numbers(reader)) == (len(INIT) + 390, list(range(40, 56)))
        for lost in (0, 3, len(INIT), len(INIT) + 239, len(whole) + 1):
            with pytest.raises(FellBehind):
                await Reader(window).seek_byte(lost)
        for lost in (1, 24, 57):
            with pytest.raises(FellBehind):
                await Reader(window).seek(lost)

    async def in_the_init(window: Window) -> None:
        reader = Reader(window)
        window.end()
        await reader.seek_byte(2)
        assert await reader.read() == INIT[2:]
        assert await numbers(reader) == [1, 2, 3, 4, 5]

    run(test, 55)
    run(in_the_init, 5)


def test_what_is_there_is_read_together_as_far_as_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "JOINED_BYTES", 2 * SIZE + 1)

    async def test(window: Window) -> None:
        reader = Reader(window)
        await reader.seek(50)
        window.append(fragment(56))
        found = [await reader.read() for _ in range(3)]
        assert found == [b"".join(fragment(n).data for n in group) for group in ([50, 51, 52], [53, 54, 55], [56])]
        assert reader.time == fragment(56).start

    run(test, 55)


def test_a_slow_reader_is_moved_or_ended() -> None:
    async def test(window: Window) -> None:
        moved, ended = Reader(window, Slow.SKIP), Reader(window, Slow.END)
        for reader in (moved, ended):
            await reader.seek(5)
            assert await reader.read() == fragment(5).data
        for number in range(6, 56):
            window.append(fragment(number))
        window.end()
        assert await numbers(moved) == [51, 52, 53, 54, 55]
        assert moved.skipped == 1
        with pytest.raises(FellBehind):
            await ended.read()

    run(test, 5)


def test_a_writer_without_a_loop_goes_on() -> None:
    loop = asyncio.new_event_loop()
    window = Window(loop)
    loop.close()
    window.begin(INIT)
    window.append(fragment(1))
    window.end()
    assert window.get(1)


@pytest.mark.parametrize("slow", list(Slow))
def test_what_is_written_between_two_looks_of_a_reader_is_not_missed(slow: Slow) -> None:
    """Not taken for something that was dropped, which would move or end the reader, and not cut off by the end."""

    async def test(window: Window) -> None:
        reader = Reader(window, slow)
        await reader.seek(56)
        look = window.get

        def write(number: int, size: int) -> list[Fragment]:
            found = look(number, size)
            if not found and number <= 60:  # as a thread may, right after the look
                window.append(fragment(number))
                if number == 60:
                    window.end()
            return found

        window.get = write  # type: ignore[method-assign]
        assert await numbers(reader) == [56, 57, 58, 59, 60]
        assert reader.skipped == 0

    run(test, 55)
