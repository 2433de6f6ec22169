"""The kernels against the CPU compositor: compiled for the host here, and as a cubin on a GPU."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.kernels import SIZE, cases, check, make_items
from musetalk_runtime.backends.cuda.item import ITEM
from musetalk_runtime.backends.cuda.kernels import COMPOSE_SOURCE, MATCH_STEPS, matched_bytes

ARCHITECTURES = ("75", "80", "86", "87", "89", "90", "100", "110", "120", "121")


def test_the_item_is_laid_out_as_in_the_kernel() -> None:
    assert ITEM.itemsize == 80
    assert [ITEM.fields[name][1] for name in ITEM.names or ()] == [0, 8, 16, 24, 32, 40, 44, 48, 64, 72, 76]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("width", "height"), [(160, 120), (202, 94)])
def test_compose_is_the_cpu_compositor_within_a_level(
    host: ctypes.CDLL, width: int, height: int, dtype: type[np.floating[Any]]
) -> None:
    batch = list(cases(width, height, dtype))
    outputs = np.zeros((len(batch), height * 3 // 2, width), np.uint8)
    bases = [None if c.base is None else c.base.packed() for c in batch]
    where = {
        "frame": [c.frame for c in batch], "mask": [c.mask for c in batch], "output": list(outputs), "base": bases,
    }  # fmt: skip
    items = make_items(batch, lambda name, i: where[name][i].ctypes.data)
    faces = np.stack([np.zeros((3, SIZE, SIZE), dtype) if c.face is None else c.face for c in batch])
    matched = np.full(matched_bytes(SIZE) // 4 * len(batch), np.nan, np.float32)
    match = getattr(host, f"run_match_{'half' if dtype is np.float16 else 'float'}")
    match(items.ctypes, len(items), faces.ctypes, matched.ctypes, SIZE)
    for name in MATCH_STEPS:
        getattr(host, f"run_{name}")(items.ctypes, len(items), matched.ctypes, SIZE)
    host.run_compose(items.ctypes, len(items), matched.ctypes, SIZE, width, height)
    check(batch, outputs)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_gather_takes_the_rows_in_the_order_of_the_faces(host: ctypes.CDLL, dtype: type[np.floating[Any]]) -> None:
    random = np.random.default_rng(3)
    latents = random.normal(0, 9, (5, 700)).astype(np.float16)
    latents[0, :4] = [6e-8, -6e-5, 65504, -0.0]  # denormals and the extremes
    tokens = random.normal(size=(5, 90)).astype(dtype)
    items = np.zeros(5, ITEM)
    items["face"], items["output"] = [2, -1, 0, 1, -1], 1
    for i in range(5):
        items[i]["latents"], items[i]["tokens"] = latents[i].ctypes.data, tokens[i].ctypes.data
    found = np.zeros((3, 700), dtype), np.zeros((3, 90), dtype)
    run = getattr(host, f"run_gather_{'half' if dtype is np.float16 else 'float'}")
    run(items.ctypes, len(items), found[0].ctypes, found[1].ctypes, 700, 90)
    assert np.array_equal(found[0], latents[[2, 3, 0]].astype(dtype))
    assert np.array_equal(found[1], tokens[[2, 3, 0]])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernels_compile_for_every_target(architecture: str, tmp_path: Path) -> None:
    if not shutil.which("nvcc"):
        pytest.skip("needs nvcc")
    known = subprocess.run(["nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    if f"compute_{architecture}" not in known:
        pytest.skip(f"this nvcc does not know sm_{architecture}")
    build = ["nvcc", "-cubin", f"-arch=sm_{architecture}", "-Werror", "all-warnings", "-o", "compose.cubin"]
    done = subprocess.run([*build, str(COMPOSE_SOURCE)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
