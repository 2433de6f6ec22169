"""The identity of a drawn person: shapes and colours."""

from dataclasses import dataclass

import numpy as np

from musetalk_drawn.figure.canvas import Colour
from musetalk_drawn.figure.palette import BACKGROUNDS, CLOTHES, EYES, HAIRS, SKINS

HAIR_STYLES = ("side", "bob", "long", "bun", "curls", "crop", "wave", "swept")
LONG_HAIR = ("bob", "long", "bun", "curls", "wave")
SHORT_HAIR = ("side", "crop", "curls", "swept", "side", "swept")
CLOTHES_STYLES = ("crew", "collar", "vneck", "hood", "turtle")


@dataclass(frozen=True)
class Identity:
    """One person. Shapes are factors about 1; colours are RGB, 0 to 255."""

    feminine: bool = True
    skin: Colour = SKINS[1]
    hair: Colour = HAIRS[2]
    eyes: Colour = EYES[2]
    clothes: Colour = CLOTHES[0]
    background: tuple[Colour, Colour] = BACKGROUNDS[0]
    hair_style: str = "bob"
    clothes_style: str = "collar"
    face: float = 1.0
    jaw: float = 1.0
    chin: float = 1.0
    eye_size: float = 1.0
    eye_gap: float = 1.0
    eye_tilt: float = 0.0
    nose: float = 1.0
    lips: float = 1.0
    mouth: float = 1.0
    brows: float = 1.0
    lashes: float = 1.0
    blush: float = 0.5
    freckles: float = 0.0
    stubble: float = 0.0
    glasses: bool = False

    @classmethod
    def from_seed(cls, seed: int) -> "Identity":
        """A person, the same for the same seed; the even ones are women."""
        rng = np.random.default_rng([seed, 0x1D])
        feminine = seed % 2 == 0
        skin = int(rng.integers(len(SKINS)))
        dark = skin > 3
        hair = HAIRS[int(rng.integers(3 if dark else len(HAIRS)))]
        styles = LONG_HAIR if feminine else SHORT_HAIR
        return cls(
            feminine=feminine,
            skin=SKINS[skin],
            hair=hair,
            eyes=EYES[0 if dark and rng.random() < 0.8 else int(rng.integers(len(EYES)))],
            clothes=CLOTHES[int(rng.integers(len(CLOTHES)))],
            background=BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))],
            hair_style=styles[int(rng.integers(len(styles)))],
            clothes_style=CLOTHES_STYLES[int(rng.integers(len(CLOTHES_STYLES)))],
            **_shapes(rng, feminine),
            glasses=bool(rng.random() < 0.2),
        )


def _shapes(rng: np.random.Generator, feminine: bool) -> dict[str, float]:
    def about(middle: float, spread: float) -> float:
        return float(middle + spread * rng.uniform(-1, 1))

    return {
        "face": about(1.0, 0.06),
        "jaw": about(0.94 if feminine else 1.08, 0.06),
        "chin": about(0.98 if feminine else 1.03, 0.04),
        "eye_size": about(1.04 if feminine else 0.94, 0.08),
        "eye_gap": about(1.0, 0.06),
        "eye_tilt": about(0.0, 0.07),
        "nose": about(0.94 if feminine else 1.1, 0.12),
        "lips": about(1.08 if feminine else 0.84, 0.16),
        "mouth": about(1.0, 0.09),
        "brows": about(0.9 if feminine else 1.3, 0.2),
        "lashes": about(1.1 if feminine else 0.5, 0.2),
        "blush": about(0.5 if feminine else 0.25, 0.2),
        "freckles": float(rng.random() < 0.2),
        "stubble": 0.0 if feminine else float(max(0.0, rng.uniform(-1, 1))),
    }


DEMO = Identity(
    hair_style="wave",
    lips=1.1,
    eye_size=1.06,
    lashes=1.15,
    blush=0.6,
    clothes=CLOTHES[0],
    background=BACKGROUNDS[0],
    hair=HAIRS[2],
)
"""The one person that the demo shows."""
