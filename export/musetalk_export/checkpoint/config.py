"""A model's config: the JSON object beside its weights."""

import json
from pathlib import Path
from typing import Any

from musetalk_export.checkpoint.regular_file import check_regular
from musetalk_runtime.core.errors import InvalidCheckpoint

MAX_CONFIG_BYTES = 1 << 20


def read_config(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises InvalidCheckpoint if it is none, or larger than 1 MiB."""
    size = check_regular(file)
    if size > MAX_CONFIG_BYTES:
        raise InvalidCheckpoint(f"{file}: {size} bytes, a model's config has at most {MAX_CONFIG_BYTES}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"{file}: not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise InvalidCheckpoint(f"{file}: expected a JSON object, found {type(config).__name__}")
    return config
