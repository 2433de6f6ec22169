"""What a LiveKit agent is told of the playback of its segments."""

import asyncio

try:
    from livekit.agents.voice.avatar import AudioReceiver
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'musetalk-edge[livekit]'", name=error.name) from None


class Playback:
    """What `audio` is told of its segments, when they are heard: what waits in the source is heard that much later.

    Segments are played one after the other. Each that was received is told to have finished, once.
    """

    def __init__(self, audio: AudioReceiver) -> None:
        self._audio = audio
        self._segments = 0  # that were received, in part at least, and not played to their end
        self._receiving = False
        self._position = 0.0  # seconds of the first that were handed to the source
        self._playing = False
        self._telling: set[asyncio.Task[None]] = set()

    def received(self) -> None:
        """A frame of the segment that is received came, or the first one of the next."""
        self._segments += not self._receiving
        self._receiving = True

    def received_end(self) -> None:
        """The segment was received."""
        self._receiving = False

    def began(self, waiting: float) -> None:
        """A frame of a segment is handed to the source next, behind `waiting` seconds."""
        if not self._playing:
            self._playing = True
            self._tell(waiting, None)

    def played(self, seconds: float) -> None:
        """So much more was handed to the source."""
        self._position += seconds

    def ended(self, waiting: float) -> None:
        """The segment is over once `waiting` seconds are heard."""
        position, self._position, self._playing = self._position, 0.0, False
        self._segments -= 1
        self._tell(waiting, (position, False))

    def cleared(self, waiting: float) -> None:
        """All segments were interrupted, and of the first `waiting` seconds are not heard."""
        position = max(0.0, self._position - waiting)
        for _ in range(self._segments):
            self._tell(0.0, (position, True))
            position = 0.0
        self._segments, self._receiving, self._position, self._playing = 0, False, 0.0, False

    async def close(self) -> None:
        """Tell nothing more."""
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    def _tell(self, delay: float, finished: tuple[float, bool] | None) -> None:
        self._telling.add(task := asyncio.create_task(self._notify(delay, finished)))
        task.add_done_callback(self._telling.discard)

    async def _notify(self, delay: float, finished: tuple[float, bool] | None) -> None:
        await asyncio.sleep(delay)
        told = self._audio.notify_playback_finished(*finished) if finished else self._audio.notify_playback_started()
        if asyncio.iscoroutine(told):
            await told
