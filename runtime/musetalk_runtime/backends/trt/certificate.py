"""The certificate of a bundle that is certified where it runs: what this machine found, and compiled.

It is a folder named for the bundle's content, in ``.certificates`` beside the bundle, or in the state folder where
nothing can be written there: a bundle may be read-only, and copies of it share the certificate. It holds the runtime
caches, ``<graph>.cache``, and the plans that were built again here, ``<graph>.plan``.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from musetalk_runtime.backends.trt.gpu_facts import GpuFacts
from musetalk_runtime.core.errors import InputNotFound, InvalidFolder
from musetalk_runtime.storage.durable import remove
from musetalk_runtime.storage.folder import MANIFEST, Manifest, read_folder, sha256
from musetalk_runtime.storage.state import state_folder

FOLDER = ".certificates"
CERTIFICATE_KIND, CERTIFICATE_SCHEMA = "certificate", 1
COMPARED = {
    "gpu": "GPU",
    "compute_capability": "compute capability",
    "driver": "driver",
    "tensorrt_rtx": "TensorRT for RTX",
    "os": "system",
}


class Certificate:
    """Attributes: ``path``, ``manifest`` (its JSON: see ``certify_bundle``), ``batch_ms``, ``live_context``."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        try:
            self.machine: dict[str, Any] = dict(manifest["machine"])
            self.engines: dict[str, dict[str, Any]] = dict(manifest["engines"])
            self.batch_ms = {int(size): float(ms) for size, ms in manifest["batch_ms"].items()}
            self.live_context = float(manifest["live_context_seconds"])
            self.cuda_graph = bool(manifest["cuda_graph"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InvalidFolder(f"{path / MANIFEST}: no certificate: run 'musetalk-edge certify' again") from None
        if not self.batch_ms:
            raise InvalidFolder(f"{path / MANIFEST}: it names no batch size: run 'musetalk-edge certify' again")

    def differences(self, facts: GpuFacts) -> str | None:
        """What is not as it was on the machine that was certified, in words; None where all is."""
        here = facts.identity("tensorrt_rtx")
        differing = [name for name in COMPARED if self.machine.get(name) != here[name]]
        if not differing:
            return None
        was = ", ".join(f"{COMPARED[name]} {self.machine.get(name)}" for name in differing)
        now = ", ".join(f"{COMPARED[name]} {here[name]}" for name in differing)
        return f"it was certified for {was}, this machine has {now}"


def find_certificate(bundle: Path) -> Certificate | None:
    """The certificate of the bundle in the folder `bundle`, of whatever machine; None where there is none."""
    for place in (_beside, _in_state):
        try:
            path = place(bundle)
            found = Certificate(path, read_folder(path, CERTIFICATE_KIND, CERTIFICATE_SCHEMA))
        except (InputNotFound, InvalidFolder, OSError):
            continue
        if found.manifest.get("bundle") == bundle_key(bundle):
            return found
    return None


def certificate_path(bundle: Path) -> Path:
    """Where a new certificate of `bundle` goes; raises OutputError where there is no place for it."""
    return _beside(bundle) if os.access(bundle.absolute().parent, os.W_OK) else _in_state(bundle)


def drop_certificates(folder: Path, kept: Iterable[Path]) -> None:
    """Remove the certificates that lie in `folder`, but those of the bundles `kept` there."""
    names = {bundle_key(bundle)[:16] for bundle in kept if (bundle / MANIFEST).is_file()}
    for path in (folder / FOLDER).glob("*"):
        if path.name not in names and not path.name.startswith("."):
            remove(path)


def bundle_key(bundle: Path) -> str:
    """The hash of a bundle's manifest, which has the hashes of its files."""
    return sha256(bundle / MANIFEST)


def _beside(bundle: Path) -> Path:
    return bundle.absolute().parent / FOLDER / bundle_key(bundle)[:16]


def _in_state(bundle: Path) -> Path:
    return state_folder() / FOLDER / bundle_key(bundle)[:16]
