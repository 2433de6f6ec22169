"""The files of a checkpoint, in MuseTalk's own tree or in the diffusers/transformers tree.

| part | folder, first found | config | weights |
| --- | --- | --- | --- |
| UNet | ``student``, ``musetalkV15``, ``musetalk``, ``unet`` | ``config.json``, or the JSON file beside | see below |
| VAE | ``sd-vae``, ``sd-vae-ft-mse``, ``vae`` | ``config.json`` | see below |
| Whisper | ``whisper`` | ``config.json`` | see below |
| small decoder, if any | ``decoder`` | ``config.json`` | see below |

``weights_files`` says which of the files in a folder are its weights.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from musetalk_export.checkpoint.regular_file import check_regular
from musetalk_export.checkpoint.weights_files import INDEX, WeightsFiles, find_weights
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidCheckpoint

log = logging.getLogger(__name__)

UNET_FOLDERS = ("student", "musetalkV15", "musetalk", "unet")
VAE_FOLDERS = ("sd-vae", "sd-vae-ft-mse", "vae")
WHISPER_FOLDERS = ("whisper",)
DECODER_FOLDERS = ("decoder",)


@dataclass(frozen=True)
class Part:
    """The files of one model: its config and its weights."""

    config: Path
    weights: WeightsFiles


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
    found = [checkpoint / name for name in folders if (checkpoint / name).is_dir()]
    if not found:
        return None
    if others := ", ".join(folder.name for folder in found[1:]):
        log.warning("%s is read, and not what is in %s beside it", found[0], others)
    return _part(found[0])


def _part(folder: Path) -> Part:
    weights = find_weights(folder)
    return Part(_config(folder, weights.first), weights)


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
    check_regular(file)
    return Part(_config(file.parent, file), WeightsFiles((file,)))


def _config(folder: Path, weights: Path) -> Path:
    for file in (weights.with_suffix(".json"), folder / "config.json"):
        if file.exists() or file.is_symlink():
            return file
    files = sorted(file for file in folder.glob("*.json") if not INDEX.fullmatch(file.name))
    if len(files) != 1:
        found = f"{len(files)} others ({', '.join(file.name for file in files)})" if files else "none"
        raise InvalidCheckpoint(f"{folder}: no config.json or {weights.stem}.json for {weights.name}; found {found}")
    return files[0]
