"""The saving of a model as diffusers and transformers do: its config and its weights as safetensors."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import logging


def save_model(model: Any, folder: Path) -> None:
    """Write `model` into `folder`, which is made if need be, for all who may read its config.

    Raises OSError, RuntimeError or SafetensorError, as the libraries do; see `write_error`.
    """
    with _no_progress_bar():
        model.save_pretrained(folder)
    bits = stat.S_IMODE((folder / "config.json").stat().st_mode)
    for file in folder.glob("*.safetensors"):
        file.chmod(bits)  # safetensors makes it private


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
