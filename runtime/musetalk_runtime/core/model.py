"""The sizes of a model, as model sets and bundles declare them. Every size comes from the checkpoint's config.

The four graphs, with N the batch (dynamic), S ``latent_size``, I ``image_size``, T mel frames (dynamic, even):

| graph | inputs | outputs |
| --- | --- | --- |
| unet | ``latents [N, 2*C, S, S]``, ``tokens [N, window_steps * audio_states, audio_width]`` | ``prediction`` |
| vae_decoder | ``latents [N, C, S, S]`` | ``images [N, 3, I, I]``, RGB in [0, 1] |
| vae_encoder | ``images [N, 3, I, I]``, RGB in [0, 1] | ``latents [N, C, S, S]``, the distribution's mean |
| audio_encoder | ``mel [N, mel_bins, T]`` | ``states [N, T / 2, audio_states, audio_width]`` |

``prediction [N, C, S, S]`` is the latents of the face to show. All latents are times the scaling factor. ``latents``
of the UNet are those of the face with its lower half black, then those of the whole face. A small decoder leaves the
first ``hidden_rows(I)`` rows of its images black, which are never shown.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from musetalk_runtime.core.errors import InvalidFolder

MODELSET_KIND, MODELSET_SCHEMA = "model set", 1
GRAPHS = ("unet", "vae_decoder", "vae_encoder", "audio_encoder")

SAMPLE_RATE = 16_000
HOP = 160  # samples from one mel frame to the next
STEP = 320  # samples from one audio state to the next: 50 a second
MAX_VALUES = {  # of what a manifest says: sizes of arrays follow from it
    "image_size": 2048,
    "latent_size": 512,
    "latent_channels": 64,
    "scaling_factor": 100,
    "mel_bins": 256,
    "audio_states": 64,
    "audio_width": 4096,
    "audio_seconds": 60,
    "window_steps": 100,
    "window_before": 100,
}


@dataclass(frozen=True)
class ModelSpec:
    """Sizes of one model set.

    ``window_steps`` audio states, of which ``window_before`` come before the frame's time, condition one frame.
    ``encoder_id`` is the SHA-256 of the VAE encoder's weights: it tells whose latents an avatar holds.
    """

    image_size: int
    latent_size: int
    latent_channels: int
    scaling_factor: float
    mel_bins: int
    audio_states: int
    audio_width: int
    audio_seconds: int
    window_steps: int
    window_before: int
    encoder_id: str

    @property
    def tokens(self) -> int:
        """Audio tokens that condition one frame."""
        return self.window_steps * self.audio_states

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> "ModelSpec":
        """The spec a manifest holds under ``model``; `where` names the manifest in InvalidFolder."""
        kinds = get_type_hints(cls)
        names = [field.name for field in fields(cls)]
        if not isinstance(value, dict) or sorted(value) != sorted(names):
            raise InvalidFolder(f"{where}: 'model' must hold {', '.join(names)}")
        for name in names:
            if kinds[name] is str:
                fits, wanted = isinstance(value[name], str), "text"
            else:
                most = MAX_VALUES[name]
                fits = type(value[name]) in (int, kinds[name]) and 0 < value[name] <= most
                wanted = f"a {kinds[name].__name__} above 0, at most {most}"
            if not fits:
                raise InvalidFolder(f"{where}: model {name} is {value[name]!r:.80}, expected {wanted}")
        return cls(**value)
