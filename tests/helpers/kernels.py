"""The kernels: cases for them, and the kernels compiled for the host."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from musetalk_runtime.avatar.base_layer import BaseLayer
from musetalk_runtime.avatar.box import box_problem
from musetalk_runtime.backends.cuda.item import ITEM
from musetalk_runtime.backends.cuda.kernels import COMPOSE_SOURCE
from musetalk_runtime.backends.ort import compose as cpu

SIZE = 256  # pixels of a face's side


SHIM = """
#include <cmath>
#include <cstring>
#include <pthread.h>
#include <thread>
#include <vector>
using namespace std;
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(THREADS)
#define __syncthreads() pthread_barrier_wait(&barrier)
static pthread_barrier_t barrier;
struct uint4 { unsigned x, y, z, w; };
struct Index { unsigned x, y, z; };
static thread_local Index blockIdx, threadIdx, blockDim = {1, 1, 1}, gridDim = {1, 1, 1};
static inline float __uint_as_float(unsigned bits) { float f; memcpy(&f, &bits, 4); return f; }
static inline void atomicAdd(unsigned long long* sum, unsigned long long value) {
    __atomic_fetch_add(sum, value, __ATOMIC_RELAXED);
}
#include SOURCE
template <typename Kernel, typename T>
static void over(unsigned blocks, unsigned items, Kernel kernel, const Item* list, T* a, T* b, int p, int q, int r) {
    gridDim = {blocks, items, 1};
    for (blockIdx.y = 0; blockIdx.y < items; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) kernel(list, a, b, p, q, r);
}
extern "C" void run_compose(const Item* list, unsigned n, float* m, int size, int w, int h) {
    over((w + 15) / 16 * (h / 2), n, [](auto l, auto a, auto, int p, int q, int r) { compose(l, a, p, q, r); },
         list, m, m, size, w, h); }
template <typename Kernel>
static void blocks(unsigned items, Kernel kernel) {
    constexpr unsigned THREADS = 3;
    for (unsigned number = 0; number < items * MATCH_BLOCKS; ++number) {
        pthread_barrier_init(&barrier, nullptr, THREADS);
        vector<thread> running;
        for (unsigned at = 0; at < THREADS; ++at) running.emplace_back([=] {
            blockIdx = {number % MATCH_BLOCKS, number / MATCH_BLOCKS, 0};
            threadIdx = {at, 0, 0}, blockDim = {THREADS, 1, 1};
            kernel();
        });
        for (auto& one : running) one.join();
        pthread_barrier_destroy(&barrier);
    }
}
#define MATCH(NAME, T) extern "C" void run_##NAME(const Item* list, unsigned n, const T* f, float* m, int size) { \\
    blocks(n, [=] { NAME(list, f, m, size); }); }
#define STEP(NAME) extern "C" void run_##NAME(const Item* list, unsigned n, float* m, int size) { \\
    blocks(n, [=] { NAME(list, m, size); }); }
#define GATHER(NAME, T) extern "C" void run_##NAME(const Item* list, unsigned n, T* a, T* b, int p, int q) { \\
    over(3, n, [](auto l, auto a, auto b, int p, int q, int) { NAME(l, a, b, p, q); }, list, a, b, p, q, 0); }
MATCH(match_half, unsigned short)
MATCH(match_float, float)
STEP(match_colours)
STEP(match_levels)
STEP(match_details)
GATHER(gather_half, unsigned short)
GATHER(gather_float, float)
"""


@dataclass
class Case:
    """One frame to compose; `face` is [3, SIZE, SIZE] in about [0, 1], None: the frame is shown as it is.

    With a `base` layer the face is matched with the frame.
    """

    frame: np.ndarray
    face: np.ndarray | None
    mask: np.ndarray
    box: tuple[int, int, int, int]
    weight: float
    base: BaseLayer | None = None

    def expected(self) -> np.ndarray:
        """The CPU compositor's frame."""
        composed = self.frame.copy()
        if self.face is not None:
            levels = np.clip(np.floor(self.face.astype(np.float32) * 255 + np.float32(0.5)), 0, 255).astype(np.uint8)
            face = np.ascontiguousarray(levels.transpose(1, 2, 0))
            cpu.compose(composed, face, self.mask, self.box, self.weight, self.base)
        return composed


def cases(width: int, height: int, dtype: type[np.floating[Any]]) -> Iterator[Case]:
    """Boxes of many sizes at every kind of position, also far outside the frame; all weights; hard and soft masks."""
    random = np.random.default_rng(width)
    y, x = np.mgrid[0:64, 0:64]
    soft = np.clip(600 - 700 * np.hypot((x - 31.5) / 30, (y - 44) / 18), 0, 255).astype(np.uint8)
    masks = [soft, np.full_like(soft, 255), np.zeros_like(soft), random.integers(0, 256, soft.shape, dtype=np.uint8)]
    boxes = [(-20, -20, width + 20, height + 20), (0, 0, width, height), (width, 0, width + 40, 40), (8, 8, 72, 72)]
    boxes += [(0, 0, SIZE, SIZE), (-SIZE // 2, 3, SIZE * 3 // 2, 3 + 2 * SIZE), (5, 5, 5 + SIZE // 2, 5 + SIZE // 2)]
    for _ in range(40):
        side = random.integers(16, 300, 2)
        corner = random.integers(-side, [width, height])
        boxes.append((*corner.tolist(), *(corner + side).tolist()))
    for k, box in enumerate(boxes):
        frame = random.integers(16, 236, (height * 3 // 2, width), dtype=np.uint8)
        face = random.uniform(-0.1, 1.1, (3, SIZE, SIZE)) if k % 11 else None
        mask, base = masks[k % len(masks)], None
        if face is not None and k % 2 and not box_problem(box, width, height):
            base = BaseLayer.of(frame, mask, box, SIZE, 0.0 if k % 3 else 0.4)
            alike = (base.levels() - 16) / 219 * (0.85 + 0.1 * (k % 4)) + random.normal(0, 0.01, (SIZE, SIZE))
            face = np.where(np.hypot(x - 32, y - 44).repeat(4, 0).repeat(4, 1) < 9, face, alike)
        weight = [1.0, 0.35, 0.8, 0.02][k % 3 if k % 5 else 3]
        yield Case(frame, None if face is None else face.astype(dtype), mask, box, weight, base)


def make_items(batch: list[Case], address: Callable[[str, int], int]) -> np.ndarray:
    """ITEMs of `batch`; `address` tells where its frame, output, mask or base layer number i lies."""
    items = np.zeros(len(batch), ITEM)
    for i, case in enumerate(batch):
        for name in ("frame", "output", "mask", *([] if case.base is None else ["base"])):
            items[i][name] = address(name, i)
        if case.base is not None:
            items[i]["sharpening"] = case.base.sharpening
        items[i]["face"] = -1 if case.face is None else i
        items[i]["box"], items[i]["weight"] = case.box, case.weight
    return items


def check(batch: list[Case], found: np.ndarray) -> None:
    """Within one level everywhere: OpenCV's rounding is followed, but may be another on other processors."""
    for case, frame in zip(batch, found, strict=True):
        expected = case.expected()
        worst = np.abs(frame.astype(int) - expected).max()
        assert worst <= 1, f"{worst} levels at box {case.box}, weight {case.weight}"
        if case.face is None or not case.mask.any():
            assert np.array_equal(frame, case.frame)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels as functions of the CPU: one thread a block, three where threads of a block wait for each other."""
    if not shutil.which("g++"):
        pytest.skip("needs g++ to compile the kernels for the host")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "shim.cpp").write_text(SHIM)
    define = f'-DSOURCE="{COMPOSE_SOURCE}"'
    build = [
        "g++",
        "-std=c++17",
        "-O2",
        "-Wall",
        "-ffp-contract=off",
        "-pthread",
        "-shared",
        "-fPIC",
        define,
        "shim.cpp",
    ]
    done = subprocess.run([*build, "-o", "kernels.so"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "kernels.so"))
