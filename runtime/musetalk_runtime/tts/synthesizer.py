"""The interface of a text-to-speech engine, and the opening of one by its name."""

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import numpy as np

from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidArgument, MachineError

HIBARI = "hibari"  # the engine of the extra `say`
NEEDS_HIBARI = "text needs a speech synthesizer: pip install 'musetalk-edge[say]'"
SAMPLE_RATES = (8_000, 192_000)  # Hz, the lowest and the highest of an engine


@runtime_checkable
class SpeechSynthesizer(Protocol):
    """What a text-to-speech engine has to have.

    ``sample_rate`` is in Hz. ``synthesize`` gets one sentence, of 200 characters at most, and gives its speech in one
    or more arrays ``[n]``, mono: float32 in [-1, 1], or int16. It is called from one thread at a time. An exception
    that it raises ends the sentence, and is told in one line.
    """

    @property
    def sample_rate(self) -> int:
        """In Hz."""

    def synthesize(self, text: str) -> Iterable[Any]:
        """The speech of `text`, in pieces."""


def open_synthesizer(name: str = HIBARI) -> SpeechSynthesizer:
    """The engine that `name` means: ``hibari``, or ``MODULE:NAME`` of what gives one when it is called.

    Raises MachineError where the package is missing, and InvalidArgument for what is no engine.
    """
    if reason := why_missing(name):
        raise MachineError(reason) if name == HIBARI else InvalidArgument(reason)
    if name == HIBARI:
        from musetalk_runtime.tts.hibari import HibariSynthesizer

        return HibariSynthesizer()
    module, _, attribute = name.partition(":")
    engine = getattr(import_module(module), attribute, None)
    if not callable(engine):
        raise InvalidArgument(f"{name}: {module} has nothing of that name that can be called")
    return checked(engine(), name)


def checked(engine: Any, name: str) -> SpeechSynthesizer:
    """`engine`, if it has the interface; raises InvalidArgument."""
    if not isinstance(engine, SpeechSynthesizer):
        raise InvalidArgument(f"{name}: a speech synthesizer has sample_rate and synthesize(text)")
    low, high = SAMPLE_RATES
    if not low <= int(engine.sample_rate) <= high:
        raise InvalidArgument(f"{name}: a sample rate of {engine.sample_rate} is out of range [{low}, {high}] Hz")
    return engine


def why_missing(name: str) -> str | None:
    """Why there is no engine `name` here, in one line; None where its module is found. Imports nothing of it."""
    if name == HIBARI:
        return None if find_spec("hibari") else NEEDS_HIBARI
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        return f"{name!r} is no speech synthesizer: expected {HIBARI}, or MODULE:NAME"
    try:
        return None if find_spec(module) else f"{name}: there is no module {module}"
    except (ImportError, ValueError):
        return f"{name}: there is no module {module}"


def mono(samples: Any) -> Floats:
    """What an engine gave, as float32 ``[n]`` in [-1, 1]; raises InvalidArgument."""
    array = np.asarray(samples)
    if array.ndim != 1 or array.dtype.kind not in "fi":
        raise InvalidArgument(f"the speech synthesizer gave {array.dtype} {array.shape}: expected float32 or int16 [n]")
    if array.dtype.kind == "i":
        array = array / np.float32(-float(np.iinfo(array.dtype).min))
    return np.asarray(np.nan_to_num(array, nan=0.0).clip(-1, 1), np.float32)
