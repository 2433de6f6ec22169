"""hibari, a small English text-to-speech engine with its model in its wheel."""

from collections.abc import Iterator

from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidArgument


class HibariSynthesizer:
    """A ``SpeechSynthesizer``: American English, one voice, on one core. Nothing is downloaded."""

    def __init__(self) -> None:
        from hibari import Hibari

        self._engine = Hibari()  # its own voice; others would be downloaded
        self.sample_rate = int(self._engine.sample_rate)
        self._engine("Hello.")  # which loads its lexicon: the first sentence need not wait for it

    def synthesize(self, text: str) -> Iterator[Floats]:
        """The speech of `text`, float32 ``[n]`` at 24 kHz; raises InvalidArgument for what it cannot pronounce."""
        try:
            yield from self._engine.stream(text, seed=0)
        except LookupError:  # as for numbers of forty digits
            raise InvalidArgument(f"this cannot be pronounced: {text}") from None
