"""What a run leaves: a checkpoint in the diffusers tree, or a small decoder's folder, for ``export-student``."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from musetalk_distill.train.unwritten import unwritten
from musetalk_export.checkpoint.tree import find_parts
from musetalk_runtime.storage.folder import written_aside


def save_checkpoint(unet: Any, source: Path, folder: Path) -> Path:
    """Write `unet`, and copies of the VAE and Whisper of `source`, to `folder`; returns it. Raises OutputError."""
    parts = find_parts(source)
    with _written(folder) as work:
        unet.save_pretrained(work / "unet")
        for part, name in ((parts.vae, "vae"), (parts.audio, "whisper")):
            (work / name).mkdir()
            for file in (part.config, *part.weights):
                shutil.copyfile(file, work / name / file.name)
    return folder


def save_decoder(decoder: Any, folder: Path) -> Path:
    """Write an AutoencoderTiny to `folder`: ``config.json`` and safetensors; returns it. Raises OutputError."""
    with _written(folder) as work:
        decoder.save_pretrained(work)
    return folder


@contextmanager
def _written(folder: Path) -> Iterator[Path]:
    try:
        with written_aside(folder) as work:
            yield work
    except (OSError, SafetensorError) as error:
        raise unwritten(f"{folder}:", getattr(error, "strerror", None) or error) from error
