"""The student U-Net: its shape by bk-sdm-tiny's rule, and its first weights from the teacher's layers.

"BK-SDM" (Kim et al., 2023), section 3.1: the innermost stage and the middle go, and of each block's pairs of residual
and attention layers the first stays, and on the way up the last too, for the skip connection that only it takes.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from musetalk_export.checkpoint.config import read_config
from musetalk_export.checkpoint.models import build_unet
from musetalk_export.checkpoint.preset import PRESETS
from musetalk_runtime.core.errors import InputNotFound, InvalidCheckpoint

log = logging.getLogger(__name__)

Config = dict[str, Any]

STUDENT = Path("the student's config")  # what errors name: it need not be in a file
MAX_LISTED = 8  # layers in an error or a log line
LAYER = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions)\.(\d+)\.")
BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Match:
    """How many of the student's tensors were copied from the teacher, and which layers were initialized anew."""

    copied: int
    fresh: list[str]


def student_config(teacher: Config, override: str | None) -> Config:
    """The student's U-Net config: the teacher's by the rule above, changed by `override`.

    The innermost stage goes where it is as wide as the one before it, as Stable Diffusion's is. `override` names a
    preset, or a JSON file with the settings to change. Raises InputNotFound or InvalidCheckpoint for the file.
    """
    levels = len(teacher["block_out_channels"])
    kept = (
        levels - 1 if levels > 1 and teacher["block_out_channels"][-1] == teacher["block_out_channels"][-2] else levels
    )
    config = {name: value for name, value in teacher.items() if not name.startswith("_")}
    config |= {
        "block_out_channels": list(teacher["block_out_channels"])[:kept],
        "down_block_types": list(teacher["down_block_types"])[:kept],
        "up_block_types": list(teacher["up_block_types"])[levels - kept :],
        "layers_per_block": 1,
        "mid_block_type": None,
    }
    return config | _override(override)


def make_student(teacher: Any, config: Config, seed: int) -> tuple[Any, Match]:
    """A U-Net of `config` with the teacher's weights in every layer that has a counterpart.

    Where the student's widths are other than the teacher's, layers that do not fit are drawn from `seed`. Raises
    InvalidCheckpoint naming the layers if the widths are the same and layers still do not fit, or if the student has
    more stages than the teacher.
    """
    build_unet(STUDENT, config)  # without memory: it fails here if it cannot be built
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = UNet2DConditionModel.from_config(config)
    return student, _copy(student, teacher)


def counterpart(name: str, student: Config, teacher: Config) -> str:
    """The name of the teacher's tensor that the student's tensor `name` stands for, whether it exists or not."""
    shift = len(teacher["block_out_channels"]) - len(student["block_out_channels"])
    if layer := LAYER.match(name):
        way, block, kind, index = layer[1], int(layer[2]), layer[3], int(layer[4])
        own, other = (_layers(config, way, at) for config, at in ((student, block), (teacher, block + shift)))
        if way == "up_blocks" and index == own - 1:
            index = other - 1
        return f"{way}.{block + shift * (way == 'up_blocks')}.{kind}.{index}.{name[layer.end() :]}"
    if (found := BLOCK.match(name)) and found[1] == "up_blocks":
        return f"up_blocks.{int(found[2]) + shift}.{name[found.end() :]}"
    return name


def _copy(student: Any, teacher: Any) -> Match:
    own, others = student.state_dict(), teacher.state_dict()
    widths, wider = (list(unet.config["block_out_channels"]) for unet in (student, teacher))
    if len(widths) > len(wider):
        raise InvalidCheckpoint(f"the student has {len(widths)} stages, more than the teacher's {len(wider)}")
    faults: dict[str, str] = {}
    copied, fresh = 0, set()
    for name, tensor in own.items():
        source = counterpart(name, student.config, teacher.config)
        if fault := _fault(name, tensor, source, others.get(source)):
            faults.setdefault(_layer(name), fault)
            fresh.add(name.rpartition(".")[0])
        else:
            tensor.copy_(others[source])
            copied += 1
    if faults and widths == wider[: len(widths)]:
        raise InvalidCheckpoint(f"student and teacher do not match: {_listed(list(faults.values()))}")
    log.info("%d of the student's %d tensors are the teacher's", copied, len(own))
    if fresh:
        log.info("drawn anew, since widths differ: %s", _listed(sorted(fresh)))
    return Match(copied, sorted(fresh))


def _layer(name: str) -> str:
    """The residual or attention layer, or else the block, that the tensor `name` is part of."""
    found = LAYER.match(name) or BLOCK.match(name)
    return found[0] if found else name.partition(".")[0]


def _fault(name: str, tensor: Tensor, source: str, other: Tensor | None) -> str | None:
    if other is None:
        return f"{_layer(name)} has no counterpart {_layer(source)}"
    if tensor.shape != other.shape:
        return f"{name} is {list(tensor.shape)}, the teacher's {source} {list(other.shape)}"
    return None


def _layers(config: Config, way: str, block: int) -> int:
    count = config["layers_per_block"]
    layers = [count] * len(config["block_out_channels"]) if isinstance(count, int) else list(count)
    return layers[block] if way == "down_blocks" else list(reversed(layers))[block] + 1


def _override(override: str | None) -> Config:
    if override is None:
        return {}
    if override in PRESETS:
        return dict(PRESETS[override].unet)
    if not Path(override).is_file():
        raise InputNotFound(f"{override}: no such student config; presets are {', '.join(PRESETS)}")
    config = read_config(Path(override))
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _listed(items: list[str]) -> str:
    more = f"; and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return "; ".join(items[:MAX_LISTED]) + more
