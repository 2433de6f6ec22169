"""The queue of a live session's text, synthesized sentence by sentence while the one before is spoken."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing

from musetalk_runtime.audio.chunk import Resampler
from musetalk_runtime.audio.speech_piece import Aligner, SpeechPiece
from musetalk_runtime.core.errors import MuseTalkEdgeError
from musetalk_runtime.service.delivery.event_stream import EventStream
from musetalk_runtime.service.session.speech_queue import SpeechQueue
from musetalk_runtime.tts.process import SynthesizerProcess

MAX_WAITING_CHARACTERS = 10_000
SYNTHESIZED_AHEAD_S = 3.0  # seconds of speech that may wait when the next sentence is synthesized
ROOM_INTERVAL_S = 0.1  # seconds between looks whether that much waits


class TextQueue:
    """Sentences that wait to be synthesized; `say` takes their speech, which goes into `speech`. For the event loop.

    What goes wrong is told by `events`: a sentence that cannot be spoken is left out, and an engine that breaks down
    drops all that waits.
    """

    def __init__(self, say: Callable[[SpeechPiece], object], speech: SpeechQueue, events: EventStream) -> None:
        self._say_piece, self._speech, self._events = say, speech, events
        self._waiting: deque[str] = deque()
        self._epoch = 0  # counts what was dropped, so that a sentence under way knows
        self._task: asyncio.Task[None] | None = None

    @property
    def characters(self) -> int:
        """How many wait to be synthesized."""
        return sum(map(len, list(self._waiting)))

    def push(self, sentences: Sequence[str], synthesizer: SynthesizerProcess) -> bool:
        """Say `sentences` after those that wait; False, and nothing said, if more than 10,000 characters would wait."""
        if self.characters + sum(map(len, sentences)) > MAX_WAITING_CHARACTERS:
            return False
        self._waiting.extend(sentences)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(synthesizer))
        return True

    def clear(self) -> None:
        """Drop what waits, and what is under way. Safe from any thread."""
        self._epoch += 1
        self._waiting.clear()

    async def _run(self, synthesizer: SynthesizerProcess) -> None:
        while self._waiting:
            if self._speech.queued > SYNTHESIZED_AHEAD_S:
                await asyncio.sleep(ROOM_INTERVAL_S)
                continue
            epoch, sentence = self._epoch, self._waiting.popleft()
            try:
                await self._say(sentence, synthesizer, epoch)
            except MuseTalkEdgeError as error:
                self._events.publish("warning", message=str(error))
                if error.exit_status == 3 and epoch == self._epoch:
                    self.clear()

    async def _say(self, sentence: str, synthesizer: SynthesizerProcess, epoch: int) -> None:
        resample, align = Resampler(channels=1), Aligner()
        async with aclosing(synthesizer.synthesize(sentence)) as pieces:
            async for samples, rate in pieces:
                piece = align(resample(samples[None], rate))
                if epoch != self._epoch:
                    continue  # the engine finishes its sentence, which nobody hears
                self._say_piece(piece)
        if epoch == self._epoch:
            self._say_piece(align(resample.end()))
