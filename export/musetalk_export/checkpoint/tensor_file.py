"""A file of tensors, safetensors or PyTorch's: checked for damage before it is believed, and nothing else unpickled."""

import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from musetalk_export.checkpoint.names import printable
from musetalk_export.checkpoint.regular_file import check_regular
from musetalk_runtime.core.errors import InvalidCheckpoint

log = logging.getLogger(__name__)

SAFETENSORS = ".safetensors"
NO_CHECKSUMS = "%s: it was saved without checksums, so damage cannot be found"
ZIP_START = b"PK\3\4"
AGAIN = "download or copy it again"
NOT_TENSORS = "not a file of tensors only (truncated, or it holds pickled code): save a state_dict"


def read_tensor_file(file: Path) -> Any:
    """What `file` holds: tensors by name, or whatever else of tensors, numbers, lists and dictionaries was saved.

    Files are mapped, not copied, but for PyTorch's format from before version 1.6. The checksums of a zip that
    `torch.save` wrote are checked, and the offsets and sizes of safetensors. Raises InvalidCheckpoint naming the file
    that is no regular file, is damaged or truncated, or holds pickled code.
    """
    check_regular(file)
    if file.suffix == SAFETENSORS:
        return _read_safetensors(file)
    zipped = _is_zip(file)
    if zipped:
        _check_zip(file)
    elif _begins_as_zip(file):
        raise InvalidCheckpoint(f"{file}: truncated: {AGAIN}")
    found = _read_torch(file, zipped)
    if not zipped:  # PyTorch's format from before version 1.6
        log.warning(NO_CHECKSUMS, file)
    return found


def _read_safetensors(file: Path) -> Any:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise InvalidCheckpoint(f"{file}: cannot be read as safetensors: {_reason(error)}: {AGAIN}") from None


def _read_torch(file: Path, zipped: bool) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError:
        raise InvalidCheckpoint(f"{file}: {NOT_TENSORS}") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever damage makes the unpickler raise
        reason = _reason(error)
        # Torch's advice is to load it without this check, which would run what code it holds.
        fault = NOT_TENSORS if "weights_only" in reason else f"cannot be read as weights: {reason}"
        raise InvalidCheckpoint(f"{file}: {fault}") from None


def _is_zip(file: Path) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:  # one all the same, as it says itself
        return True


def _begins_as_zip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(ZIP_START)) == ZIP_START


def _check_zip(file: Path) -> None:
    """Raise InvalidCheckpoint unless all entries of `file` are stored as torch stores them, and have their CRC-32."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.filename.endswith("/constants.pkl") for entry in entries):
                raise InvalidCheckpoint(f"{file}: a TorchScript program: save a state_dict")
            # Mapped, a compressed entry would be read as if it were the numbers themselves.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise InvalidCheckpoint(f"{file}: its entries are compressed: save it again with torch.save")
            if not any(entry.CRC for entry in entries):
                log.warning(NO_CHECKSUMS, file)
                return
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        if isinstance(error, InvalidCheckpoint):
            raise
        raise InvalidCheckpoint(f"{file}: damaged: {_reason(error)}: {AGAIN}") from None
    if damaged is not None:
        raise InvalidCheckpoint(
            f"{file}: damaged: {printable(damaged)} does not have its checksum: download or copy it again"
        )


def _reason(error: Exception) -> str:
    return printable(str(error).partition("\n")[0].rstrip(":")) or type(error).__name__
