"""The certification of a bundle where it runs: every plan compiled, compared with the golden tensors, and measured."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musetalk_runtime.backends.cuda.device import open_device
from musetalk_runtime.backends.cuda.kernels import Kernels
from musetalk_runtime.backends.trt.certificate import (
    CERTIFICATE_KIND,
    CERTIFICATE_SCHEMA,
    Certificate,
    bundle_key,
    certificate_path,
    find_certificate,
)
from musetalk_runtime.backends.trt.certified_here import gpu_cubin, require_rtx
from musetalk_runtime.backends.trt.chain import Chain
from musetalk_runtime.backends.trt.plan import Plan
from musetalk_runtime.backends.trt.tensorrt_api import RTX
from musetalk_runtime.bundle import BUNDLE_KIND, BUNDLE_SCHEMA, TENSORRT_RTX, Bundle
from musetalk_runtime.certification.check import ORDER, CertifiedOutput, certify_plan
from musetalk_runtime.certification.fallbacks import first_passing
from musetalk_runtime.certification.golden import read_golden
from musetalk_runtime.certification.measure import affordable_context, paying_batches, plan_ms
from musetalk_runtime.certification.rebuild import rebuild_plan
from musetalk_runtime.core.errors import InvalidArgument, InvalidFolder
from musetalk_runtime.core.model import HOP, SAMPLE_RATE
from musetalk_runtime.storage.folder import MANIFEST, Manifest, listed_file, new_folder, read_folder, settled

Progress = Callable[[str], None]

TRIED_FRAME = (64, 64)  # of the chain whose capture is tried: kernels and plans are the same at every size


@dataclass(frozen=True)
class Attempt:
    """A plan as one variant: ``ms`` are milliseconds a run by profile; ``rebuilt``, that it was built again here."""

    file: Path
    variant: str
    rebuilt: bool
    certified: list[CertifiedOutput]
    ms: list[float]
    profiles: list[dict[str, tuple[int, ...]]]
    seconds: float


def why_uncertified(bundle: Bundle) -> str | None:
    """Why `bundle` must be certified before it runs on this machine as it is now; None where it need not be.

    Raises MachineError where it cannot run here at all.
    """
    if bundle.manifest["backend"] != TENSORRT_RTX:
        return None
    facts = require_rtx(bundle.path)
    gpu_cubin(bundle.path, bundle.manifest, facts)  # a GPU that it was not built for is refused without a word before
    found = find_certificate(bundle.path)
    return found.differences(facts) if found else "its first start on this machine"


def ensure_certified(bundle: Bundle, progress: Progress) -> None:
    """Certify `bundle` where it must be; raises MachineError where it cannot run, and what `certify_bundle` raises."""
    if reason := why_uncertified(bundle):
        progress(f"certifying {bundle.path}: {reason}")
        certify_bundle(bundle.path, progress)
        bundle.find_certificate()


def certify_bundle(path: Path, progress: Progress) -> Certificate:
    """Certify the bundle at `path` on this machine, and write its certificate, in place of an older one.

    Each plan is compiled for this GPU, run on the golden inputs at every profile, and measured; the runtime caches are
    kept. A plan that is off is built again as the next safer variant. Of the batch sizes those are chosen that pay, and
    the capture of a CUDA graph is tried. Raises InputNotFound, InvalidFolder or InvalidArgument for what was given;
    MachineError where the bundle cannot run here; AccuracyError where a plan is off in every variant. Then nothing is
    written.
    """
    start = time.monotonic()
    path = settled(path)
    manifest = read_folder(path, BUNDLE_KIND, BUNDLE_SCHEMA)
    if manifest.get("backend") != TENSORRT_RTX:
        raise InvalidArgument(f"{path}: it was certified when it was built, by {manifest.get('backend')}")
    _check(manifest, path)
    facts = require_rtx(path)
    kernels = gpu_cubin(path, manifest, facts)
    place = certificate_path(path)
    with new_folder(place, CERTIFICATE_KIND, CERTIFICATE_SCHEMA) as (folder, content):
        certifier = _Certifier(path, manifest, folder, open_device(), progress)
        attempts = {graph: certifier.certified(graph) for graph in ORDER}
        batch_ms = paying_batches(_batch_ms(attempts))
        audio_ms = _audio_ms(attempts["audio_encoder"])
        progress("capturing CUDA graphs")
        captured = certifier.capture(attempts, kernels, max(batch_ms))
        content.update(
            bundle=bundle_key(path),
            machine=facts.identity("tensorrt_rtx"),
            engines={graph: _to_json(attempt) for graph, attempt in attempts.items()},
            batch_ms=batch_ms,
            audio_encoder_ms=audio_ms,
            live_context_seconds=affordable_context(audio_ms),
            cuda_graph=captured,
            seconds=round(time.monotonic() - start, 1),
        )
    progress(f"certified {path} in {time.monotonic() - start:.0f} s, batches of up to {max(batch_ms)} pay: {place}")
    return Certificate(place, read_folder(place, CERTIFICATE_KIND, CERTIFICATE_SCHEMA))


def _check(manifest: Manifest, path: Path) -> None:
    """Raise InvalidFolder unless the manifest has what a certification reads."""
    engines, variants = manifest.get("engines"), manifest.get("variants")
    if not (
        isinstance(engines, dict)
        and all(isinstance(engines.get(graph), dict) and "variant" in engines[graph] for graph in ORDER)
        and isinstance(variants, list)
        and variants
        and all(isinstance(variant, str) for variant in variants)
        and {manifest.get("precision"), manifest.get("graph_precision")} <= {"fp16", "fp32"}
    ):
        raise InvalidFolder(f"{path / MANIFEST}: its engines, variants or precision are missing: build it again")


@dataclass(frozen=True)
class _Certifier:
    """Certifies the plans of the bundle at ``path``; caches and plans that are built again go into ``folder``."""

    path: Path
    manifest: Manifest
    folder: Path
    device: Any
    progress: Progress

    def certified(self, graph: str) -> Attempt:
        """The first variant of `graph` that passes, and its runtime cache in the folder."""
        variants = self.manifest["variants"]
        found = first_passing(graph, variants, lambda variant: self._attempt(graph, variant), self.progress)
        worst = max(found.certified, key=lambda row: row.relative_error / row.bound)
        off = f"{worst.output} off by {worst.relative_error:.1e}"
        self.progress(f"certified {graph}: {found.variant}, {off}, in {found.seconds:.0f} s")
        return found

    def capture(self, attempts: dict[str, Attempt], cubin: Path, batch: int) -> bool:
        """Whether the chain can be captured in CUDA graphs."""
        with ExitStack() as stack:
            unet, decoder = (
                stack.enter_context(self._load(graph, attempts[graph].file)) for graph in ("unet", "vae_decoder")
            )
            chain = Chain(self.device, unet, decoder, Kernels(cubin), TRIED_FRAME, True, batch)
            stack.callback(chain.close)
            return chain.captured

    def _attempt(self, graph: str, variant: str) -> Attempt:
        start, rebuilt = time.monotonic(), variant != self.manifest["engines"][graph]["variant"]
        file = listed_file(self.path, self.manifest, f"{graph}.plan")
        if rebuilt:
            file = rebuild_plan(self.path, graph, variant, self.folder, self.progress)
        self.progress(f"compiling {graph} for this GPU")
        precision = self.manifest["precision"]
        with ExitStack() as stack:
            plan = stack.enter_context(self._load(graph, file))
            decoder = None
            if graph == "unet":
                decoder = stack.enter_context(self._load("vae_decoder", self._decoder_file))
            fp32 = precision == self.manifest["graph_precision"] == "fp32"
            rows = certify_plan(read_golden(self.path), graph, plan, plan.profiles, fp32, decoder)
            passed = all(row.passed for row in rows)
            ms = plan_ms(plan, plan.profiles, precision) if passed else []
            (self.folder / f"{graph}.cache").write_bytes(plan.runtime_cache())
        return Attempt(file, variant, rebuilt, rows, ms, plan.profiles, round(time.monotonic() - start, 1))

    @property
    def _decoder_file(self) -> Path:
        """The decoder that was certified: built again here, or the bundle's."""
        again = self.folder / "vae_decoder.plan"
        return again if again.exists() else listed_file(self.path, self.manifest, "vae_decoder.plan")

    def _load(self, graph: str, file: Path) -> Plan:
        """A plan, with what was compiled for it in this run."""
        cache = self.folder / f"{graph}.cache"
        return Plan.load(file, self.device, RTX, cache.read_bytes() if cache.exists() else b"")


def _batch_ms(attempts: dict[str, Attempt]) -> dict[int, float]:
    """UNet and decoder, one after the other, by batch size."""
    unet, decoder = attempts["unet"], attempts["vae_decoder"]
    sizes = [shapes["latents"][0] for shapes in unet.profiles]
    return {size: round(a + b, 3) for size, a, b in zip(sizes, unet.ms, decoder.ms, strict=True)}


def _audio_ms(attempt: Attempt) -> dict[float, float]:
    """The audio encoder, by seconds of speech."""
    seconds = [shapes["mel"][2] * HOP / SAMPLE_RATE for shapes in attempt.profiles]
    return dict(zip(seconds, attempt.ms, strict=True))


def _to_json(attempt: Attempt) -> dict[str, Any]:
    fields = asdict(attempt)
    return {name: fields[name] for name in ("variant", "rebuilt", "certified", "ms", "seconds")}
