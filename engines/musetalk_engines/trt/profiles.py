"""The optimisation profiles of plans: static shapes, so that TensorRT chooses its kernels for exactly these."""

from collections.abc import Sequence

from musetalk_runtime.core.model import HOP, SAMPLE_RATE, ModelSpec

Profile = dict[str, tuple[int, ...]]  # shape by input

# Speech that the audio encoder hears at once: a whole segment, and live audio on a slow GPU. Each length is a profile,
# which costs build time and memory, so there are few.
PROFILED_CONTEXTS_S = (30, 2)
ENCODED_FACES = (1, 4)  # at once; each is two pictures, masked and whole


def engine_profiles(spec: ModelSpec, graph: str, batch_sizes: Sequence[int]) -> list[Profile]:
    """One profile for each batch size of the UNet and the decoder; the encoders have sizes of their own."""
    latents = (spec.latent_channels, spec.latent_size, spec.latent_size)
    if graph == "unet":
        both = (2 * spec.latent_channels, *latents[1:])
        tokens = (spec.tokens, spec.audio_width)
        return [{"latents": (size, *both), "tokens": (size, *tokens)} for size in batch_sizes]
    if graph == "vae_decoder":
        return [{"latents": (size, *latents)} for size in batch_sizes]
    if graph == "vae_encoder":
        return [{"images": (2 * size, 3, spec.image_size, spec.image_size)} for size in ENCODED_FACES]
    return [{"mel": (1, spec.mel_bins, seconds * SAMPLE_RATE // HOP)} for seconds in profiled_contexts(spec)]


def profiled_contexts(spec: ModelSpec) -> list[int]:
    """Seconds of the audio encoder's profiles, longest first, within what the model hears at once."""
    return sorted({min(seconds, spec.audio_seconds) for seconds in PROFILED_CONTEXTS_S}, reverse=True)
