"""The GPU times of a batch, by the events of its slot."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from musetalk_runtime.backends.cuda.driver_calls import elapsed
from musetalk_runtime.backends.cuda.slot import Slot
from musetalk_runtime.core.timings import Timings

Span = tuple[float, float]

MODELS = {"unet": ("compute_begin", "unet_end"), "vae_decoder": ("unet_end", "decoder_end")}
UPLOAD, COMPUTE, DOWNLOAD = ((f"{lane}_begin", f"{lane}_end") for lane in ("upload", "compute", "download"))


@dataclass(frozen=True)
class BatchTimes:
    """When the GPU did what for a batch: ``(begin, end)`` in milliseconds since the renderer was made.

    ``parts`` are those of ``compute``, one after another: ``unet`` (with the gathering of its inputs) and
    ``vae_decoder``, which a batch without faces has not, and ``compose``. Frames that are composed into mapped memory
    have no ``download``.
    """

    frames: int
    faces: int
    upload: Span
    compute: Span
    download: Span | None
    parts: dict[str, Span]


@dataclass(frozen=True)
class Reporter:
    """Where times go: ``timings`` gets the host's and the GPU's, ``timeline`` the GPU's since the event ``origin``."""

    timings: Timings
    timeline: Callable[[BatchTimes], None] | None
    origin: Any

    def report(self, slot: Slot, frames: int, faces: int) -> None:
        """Tell of the batch of so many `frames`, `faces` of them with a face made, that left `slot` finished."""
        events, parts = slot.events, _compute_parts(faces)
        downloads = {} if slot.frames.mapped else {"gpu_download": DOWNLOAD}
        for stage, (begin, end) in {"gpu_upload": UPLOAD, **downloads, **parts}.items():
            self.timings.record(stage, elapsed(events[begin], events[end]), faces if stage in MODELS else frames)
        if self.timeline:
            download = self._span(slot, DOWNLOAD) if downloads else None
            inner = {stage: self._span(slot, ends) for stage, ends in parts.items()}
            self.timeline(
                BatchTimes(frames, faces, self._span(slot, UPLOAD), self._span(slot, COMPUTE), download, inner)
            )

    def _span(self, slot: Slot, ends: tuple[str, str]) -> Span:
        begin, end = (elapsed(self.origin, slot.events[mark]) for mark in ends)
        return begin, end


def _compute_parts(faces: int) -> dict[str, tuple[str, str]]:
    """The events that each part of the computing begins and ends with."""
    if not faces:
        return {"compose": ("compute_begin", "compute_end")}
    return {**MODELS, "compose": ("decoder_end", "compute_end")}
