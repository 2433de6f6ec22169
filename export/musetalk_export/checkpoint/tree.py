"""The files of a checkpoint, in MuseTalk's own tree or in the diffusers/transformers tree.

| part | folder, first found | config | weights |
| --- | --- | --- | --- |
| UNet | ``student``, ``musetalkV15``, ``musetalk``, ``unet`` | ``config.json``, or the JSON file beside | see below |
| VAE | ``sd-vae``, ``sd-vae-ft-mse``, ``vae`` | ``config.json`` | see below |
| Whisper | ``whisper`` | ``config.json`` | see below |
| small decoder, if any | ``decoder`` | ``config.json`` | see below |

Weights are the first of ``WEIGHTS`` that the folder holds; ``*-of-*`` are the shards of one model.
"""

from dataclasses import dataclass
from pathlib import Path

from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidCheckpoint

UNET_FOLDERS = ("student", "musetalkV15", "musetalk", "unet")
VAE_FOLDERS = ("sd-vae", "sd-vae-ft-mse", "vae")
WHISPER_FOLDERS = ("whisper",)
DECODER_FOLDERS = ("decoder",)

SHARDS = "*-of-*.safetensors"
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    SHARDS,
    "unet.pth",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
    "*.safetensors",
    "*.pth",
)


@dataclass(frozen=True)
class Part:
    """The files of one model: its config, and its weights in one file or in shards."""

    config: Path
    weights: tuple[Path, ...]


@dataclass(frozen=True)
class Parts:
    """The models of one checkpoint; without a small decoder the VAE's own makes the images."""

    unet: Part
    vae: Part
    audio: Part
    decoder: Part | None


def find_parts(checkpoint: Path, unet_file: Path | None = None, decoder_folder: Path | None = None) -> Parts:
    """The parts of the tree at `checkpoint`; `unet_file` (``FILE.pth``) and `decoder_folder` take those parts' places.

    Raises InputNotFound if what is named does not exist, InvalidArgument for a file where a folder is expected or the
    other way round, and InvalidCheckpoint for a part that is missing or ambiguous.
    """
    if not checkpoint.exists():
        raise InputNotFound(f"{checkpoint}: no such checkpoint")
    if not checkpoint.is_dir():
        raise InvalidArgument(f"{checkpoint}: a checkpoint is a folder; give a student's weights with --unet FILE")
    return Parts(
        _find(checkpoint, "UNet", UNET_FOLDERS) if unet_file is None else _unet_beside(unet_file),
        _find(checkpoint, "VAE", VAE_FOLDERS),
        _find(checkpoint, "Whisper", WHISPER_FOLDERS),
        _look(checkpoint, DECODER_FOLDERS) if decoder_folder is None else _decoder_in(decoder_folder),
    )


def _find(checkpoint: Path, name: str, folders: tuple[str, ...]) -> Part:
    part = _look(checkpoint, folders)
    if part is None:
        raise InvalidCheckpoint(f"{checkpoint}: no {name}: expected a folder {' or '.join(folders)}")
    return part


def _look(checkpoint: Path, folders: tuple[str, ...]) -> Part | None:
    for folder in (checkpoint / name for name in folders):
        if folder.is_dir():
            return _part(folder)
    return None


def _part(folder: Path) -> Part:
    weights = _weights(folder)
    return Part(_config(folder, weights[0]), weights)


def _decoder_in(folder: Path) -> Part:
    if not folder.exists():
        raise InputNotFound(f"{folder}: no such decoder")
    if not folder.is_dir():
        raise InvalidArgument(f"{folder}: --decoder takes a folder with config.json and weights")
    return _part(folder)


def _unet_beside(file: Path) -> Part:
    if not file.exists():
        raise InputNotFound(f"{file}: no such UNet")
    if not file.is_file():
        raise InvalidArgument(f"{file}: --unet takes a file of weights")
    return Part(_config(file.parent, file), (file,))


def _weights(folder: Path) -> tuple[Path, ...]:
    for pattern in WEIGHTS:
        files = sorted(folder.glob(pattern))
        if len(files) > 1 and pattern != SHARDS:
            raise InvalidCheckpoint(f"{folder}: {len(files)} files fit {pattern} ({_names(files)}): leave one")
        if files:
            return tuple(files)
    raise InvalidCheckpoint(f"{folder}: no weights: expected one of {', '.join(WEIGHTS)}")


def _config(folder: Path, weights: Path) -> Path:
    for file in (weights.with_suffix(".json"), folder / "config.json"):
        if file.is_file():
            return file
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        found = f"{len(files)} others ({_names(files)})" if files else "none"
        raise InvalidCheckpoint(f"{folder}: no config.json or {weights.stem}.json for {weights.name}; found {found}")
    return files[0]


def _names(files: list[Path]) -> str:
    return ", ".join(file.name for file in files)
