"""The options of a training run, and the default weights of its losses."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from musetalk_runtime.core.errors import InvalidArgument

WHAT = ("student", "teacher", "decoder")
PRECISIONS = ("bf16", "fp16", "fp32")
LEARNING_RATES = {"student": 1e-4, "teacher": 2e-4, "decoder": 5e-4}

# By what is trained: the weight of each loss. ``losses`` says what they are.
LOSSES = {
    "student": {"output": 1.0, "truth": 0.5, "features": 0.5, "pixels": 1.0},
    "teacher": {"truth": 1.0, "pixels": 1.0},
    "decoder": {"pixels": 1.0, "edges": 1.0, "features": 0.2, "temporal": 0.0},
}
CHANGEABLE = ("compile",)  # options that may change when a run is resumed
EXTENDABLE = "steps"  # may too, and is noted


@dataclass(frozen=True)
class TrainOptions:
    """One run. Batches are counted in frames, over all GPUs together; ``losses`` overrides weights by name.

    Every ``pixel_every`` steps a U-Net's loss has a term on ``pixel_frames`` decoded frames on each GPU. A decoder
    learns on predictions of the checkpoint's U-Net for the share ``predictions`` of a batch, else on true latents; to
    both is added noise of a deviation up to ``noise``.
    """

    what: str = "student"
    steps: int = 20_000
    batch: int = 48
    lr: float | None = None
    warmup: int = 500
    ema: float = 0.999
    clip: float = 1.0
    seed: int = 0
    precision: str | None = None
    compile: bool = False
    log_every: int = 50
    save_every: int = 1000
    pixel_every: int = 8
    pixel_frames: int = 8
    student_config: str | None = None
    width: int = 32
    predictions: float = 0.5
    noise: float = 0.1
    losses: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InvalidArgument for a value out of its range."""
        _one_of("--what", self.what, WHAT)
        if self.precision is not None:
            _one_of("--precision", self.precision, PRECISIONS)
        for name in ("steps", "batch", "log_every", "save_every", "pixel_every", "pixel_frames", "width"):
            _within(name, getattr(self, name), 1, 1 << 40)
        _within("lr", self.rate, 1e-9, 1.0)
        _within("warmup", self.warmup, 0, 1 << 40)
        _within("ema", self.ema, 0.0, 0.999999)
        _within("clip", self.clip, 1e-6, 1e6)
        _within("seed", self.seed, 0, (1 << 32) - 1)
        _within("predictions", self.predictions, 0.0, 1.0)
        _within("noise", self.noise, 0.0, 10.0)
        for name, weight in self.losses.items():
            _one_of("--loss", name, tuple(LOSSES[self.what]))
            _within(f"loss {name}", weight, 0.0, 1e6)

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return LEARNING_RATES[self.what] if self.lr is None else self.lr

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each loss by its name."""
        return LOSSES[self.what] | self.losses

    @property
    def pairs(self) -> bool:
        """Whether a batch holds pairs of neighbouring frames."""
        return self.weights.get("temporal", 0.0) > 0

    def to_json(self, data: str, checkpoint: Path) -> dict[str, Any]:
        """All that makes a run what it is, with the hash of its shards and the path of its checkpoint."""
        settings = {name: value for name, value in asdict(self).items() if name not in CHANGEABLE}
        settings |= {"lr": self.rate, "losses": self.weights}
        return settings | {"shards": data, "checkpoint": str(checkpoint.resolve())}


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 over `config`, all but the number of steps, as canonical JSON."""
    kept = {name: value for name, value in config.items() if name != EXTENDABLE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidArgument(f"{name} {value!r}: expected {', '.join(allowed)}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidArgument(f"{name.replace('_', '-')} {value:g} is out of range [{low:g}, {high:g}]")
