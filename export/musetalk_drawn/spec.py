"""The specification of a drawn clip: all that decides it, drawn from a seed."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from musetalk_drawn.figure.identity import DEMO, Identity
from musetalk_drawn.speech.espeak import Voice
from musetalk_drawn.speech.texts import HELD_OUT, TRAIN
from musetalk_runtime.core.errors import InvalidArgument

SPEAKERS, HELD_OUT_SPEAKERS = 48, 12
DEMO_SHARE = 0.15  # of the clips show the demo's face
ACCENTS = ("en-us", "en-us", "en-us", "en-gb-x-rp", "en-gb-scotland", "en", "en-us-nyc")
MIN_SIZE, MAX_SIZE = 128, 2048  # pixels a side


@dataclass(frozen=True)
class Speaker:
    """A face with a voice."""

    id: str
    who: Identity
    voice: Voice
    liveliness: float = 1.0

    @classmethod
    def of(cls, number: int, held_out: bool = False) -> "Speaker":
        """Speaker `number`; 0 is the demo's. Those held out are others, with other voices."""
        seed = number + 100_000 * held_out
        rng = np.random.default_rng([seed, 0x70])
        who = DEMO if seed == 0 else Identity.from_seed(seed)
        voice_name = _voice_name(who, rng)
        while held_out and voice_name in _trained_voices():
            voice_name = _voice_name(who, rng)
        voice = Voice(voice_name, int(rng.integers(140, 186)), int(rng.integers(30, 71)), int(rng.integers(35, 71)))
        name = f"{'held-out' if held_out else 'drawn'}-{number:02d}"
        return cls(name, who, voice, float(rng.uniform(0.9, 1.1)))


@dataclass(frozen=True)
class ClipSpec:
    """One clip. ``pauses`` are the seconds before, between and after the sentences; ``noise`` is in dB below the voice
    and ``reverberation`` in seconds, or None; ``motion`` scales the head's movement; ``size`` is in pixels."""

    seed: int
    speaker: Speaker
    sentences: tuple[str, ...]
    pauses: tuple[float, ...]
    noise: float | None = None
    reverberation: float | None = None
    motion: float = 1.0
    size: int = 512
    held_out: bool = False

    @classmethod
    def from_seed(cls, seed: int, held_out: bool = False, size: int = 512) -> "ClipSpec":
        """Choose speaker, sentences, pauses, sound and motion; raises InvalidArgument for a size out of range."""
        if not (MIN_SIZE <= size <= MAX_SIZE and size % 2 == 0):
            raise InvalidArgument(f"{size=}, expected an even number of pixels in {[MIN_SIZE, MAX_SIZE]}")
        rng = np.random.default_rng([seed, int(held_out), 0x80])
        texts = HELD_OUT if held_out else TRAIN
        number = int(rng.integers(HELD_OUT_SPEAKERS) if held_out else rng.integers(1, SPEAKERS))
        if not held_out and rng.random() < DEMO_SHARE:
            number = 0
        count = int(rng.integers(1, 4))
        chosen = tuple(texts[int(k)] for k in rng.choice(len(texts), count, replace=False))
        pauses = tuple(round(float(rng.uniform(0.35, 0.9)), 3) for _ in range(count + 1))
        noise = float(rng.uniform(14, 34)) if rng.random() < 0.4 else None
        reverberation = float(rng.uniform(0.15, 0.5)) if rng.random() < 0.35 else None
        motion = float(rng.uniform(0.5, 1.3))
        return cls(seed, Speaker.of(number, held_out), chosen, pauses, noise, reverberation, motion, size, held_out)

    @property
    def id(self) -> str:
        """The name of its files."""
        return f"{'held-out' if self.held_out else 'drawn'}-{self.seed:06d}"


def _voice_name(who: Identity, rng: np.random.Generator) -> str:
    kind = f"f{rng.integers(1, 6)}" if who.feminine else f"m{rng.integers(1, 9)}"
    return f"{rng.choice(ACCENTS)}+{kind}"


@cache
def _trained_voices() -> frozenset[str]:
    return frozenset(Speaker.of(number).voice.name for number in range(SPEAKERS))
