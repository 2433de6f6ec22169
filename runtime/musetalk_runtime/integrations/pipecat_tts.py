"""Pipecat: a text-to-speech engine of this machine as a service in a pipeline."""

from collections.abc import AsyncGenerator
from typing import Any

import numpy as np

from musetalk_runtime.tts.process import SynthesizerProcess
from musetalk_runtime.tts.sentences import sentences
from musetalk_runtime.tts.synthesizer import HIBARI

try:
    from pipecat.frames.frames import Frame, StartFrame, TTSAudioRawFrame
    from pipecat.services.settings import TTSSettings
    from pipecat.services.tts_service import TTSService
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'musetalk-edge[pipecat]'", name=error.name) from None

STOP_TIMEOUT_S = 2.0  # seconds without more text, after which an utterance is whole


class LocalTTSService(TTSService):
    """Speaks by the engine `name`, in a process of its own: ``hibari`` of the extra ``say``, or ``MODULE:NAME``."""

    def __init__(self, name: str = HIBARI, **options: Any) -> None:
        settings = TTSSettings(model=name, voice=None, language=None)
        options = {"stop_frame_timeout_s": STOP_TIMEOUT_S, **options}
        super().__init__(push_start_frame=True, push_stop_frames=True, settings=settings, **options)
        self._synthesizer = SynthesizerProcess(name)

    async def start(self, frame: StartFrame) -> None:
        """Load the engine."""
        await super().start(frame)
        await self._synthesizer.start()

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        """The speech of `text`, piece by piece."""
        for sentence in sentences(text):
            async for samples, rate in self._synthesizer.synthesize(sentence):
                audio = np.rint(samples * 32767).astype("<i2").tobytes()
                yield TTSAudioRawFrame(audio=audio, sample_rate=rate, num_channels=1, context_id=context_id)

    async def cleanup(self) -> None:
        """End the process."""
        await super().cleanup()
        await self._synthesizer.close()
