"""Certification: the outputs of a plan compared with the golden tensors, at every profile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from musetalk_runtime.core.accuracy import Difference, difference
from musetalk_runtime.core.arrays import Array

# Largest ||found - expected|| / ||expected||. FP16 rounds every activation by up to 5e-4, and tens of layers add up to
# some 1e-3 to 1e-2; what is computed wrongly is off by 1e-1, or is not a number. Faces are held to half of that: of
# values in [0, 1], the root mean square error is then at most 1e-2 too, which is a PSNR of 40 dB at least, and 2.6 of
# 255 levels. In FP32 only the order of sums differs.
BOUNDS = {"unet": 2e-2, "vae_decoder": 1e-2, "chain": 1e-2, "vae_encoder": 2e-2, "audio_encoder": 2e-2}
FP32_BOUND = 1e-3

Profile = Mapping[str, tuple[int, ...]]
"""The shape of each input, by name."""

# The decoder comes first: the UNet is judged by the faces that the decoder makes of its prediction, too.
ORDER = ("vae_decoder", "unet", "vae_encoder", "audio_encoder")
OUTPUTS = {"unet": "prediction", "vae_decoder": "images", "vae_encoder": "latents", "audio_encoder": "states"}


class RunnablePlan(Protocol):
    """A plan that is loaded: ``musetalk_runtime.backends.trt.plan.Plan``."""

    def run(self, profile: int, inputs: Mapping[str, Array], /) -> dict[str, Array]:
        """The outputs by name, once they are there."""


@dataclass(frozen=True)
class CertifiedOutput(Difference):
    """The difference of one output at one profile; ``psnr_db`` of faces, whose peak is 1, without rows that are left
    black."""

    profile: int
    psnr_db: float | None = None


def certify_plan(
    golden: Mapping[str, Array],
    graph: str,
    plan: RunnablePlan,
    profiles: Sequence[Profile],
    fp32: bool,
    decoder: RunnablePlan | None,
) -> list[CertifiedOutput]:
    """Run `plan` on the `golden` inputs at each of its `profiles`; with a `decoder`, the UNet's faces are judged too.

    `golden` has the tensors of a model set by ``<graph>.<tensor>``, and the audio encoder's states for each shorter
    length of speech as `context_states` names them. `fp32` asks for FP32_BOUND.
    """
    rows: list[CertifiedOutput] = []
    for index, shapes in enumerate(profiles):
        inputs, expected = _golden(golden, graph, shapes)
        found = _run(plan, index, shapes, inputs, OUTPUTS[graph])
        rows.append(_row(graph, shapes, index, found, expected[OUTPUTS[graph]], fp32))
        if decoder:
            latents = {"latents": (next(iter(shapes.values()))[0], *found.shape[1:])}
            faces = _run(decoder, index, latents, {"latents": found}, "images")
            rows.append(_row("chain", shapes, index, faces, expected["chain"], fp32))
    return rows


def context_states(frames: int) -> str:
    """The name of the audio encoder's expected states of the first so many mel `frames`."""
    return f"audio_encoder.states[{frames}]"


def _golden(golden: Mapping[str, Array], graph: str, shapes: Profile) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and expected outputs, in whole batches of the profile: the last one is filled up from the first rows."""
    output = OUTPUTS[graph]
    if graph == "audio_encoder":
        mel = golden["audio_encoder.mel"]
        frames = shapes["mel"][2]
        states = golden["audio_encoder.states" if frames == mel.shape[2] else context_states(frames)]
        return {"mel": mel[:, :, :frames]}, {output: states}
    size = next(iter(shapes.values()))[0]
    count = len(golden[f"{graph}.{output}"])
    rows = np.arange(-(-count // size) * size) % count
    expected = {output: golden[f"{graph}.{output}"][rows]}
    if graph == "unet":
        expected["chain"] = golden["chain.images"][rows]
    return {name: golden[f"{graph}.{name}"][rows] for name in shapes}, expected


def _run(plan: RunnablePlan, index: int, shapes: Profile, inputs: Mapping[str, Array], output: str) -> Array:
    """`output` for all rows of `inputs`, a batch of the profile at a time."""
    size = next(iter(shapes.values()))[0]
    rows = len(next(iter(inputs.values())))
    batches = [
        plan.run(index, {name: value[start : start + size] for name, value in inputs.items()})[output]
        for start in range(0, rows, size)
    ]
    return np.concatenate(batches)


def _row(graph: str, shapes: Profile, index: int, found: Array, expected: Array, fp32: bool) -> CertifiedOutput:
    bound = FP32_BOUND if fp32 else BOUNDS[graph]
    name = OUTPUTS.get(graph, "images")
    first = next(iter(shapes.values()))
    size = first[2] if graph == "audio_encoder" else first[0]
    row = difference(graph, f"{name}[{size}]", found, expected, bound)
    psnr = None
    if name == "images":
        painted = expected.any(axis=(0, 1, 3)) if expected.any() else slice(None)
        error = float(np.sqrt(np.mean((found.astype(np.float64) - expected)[:, :, painted] ** 2)))
        psnr = round(-20 * float(np.log10(max(error, 1e-10))), 1) if np.isfinite(error) else None
    return CertifiedOutput(row.graph, row.output, row.max_error, row.relative_error, row.bound, index, psnr)
