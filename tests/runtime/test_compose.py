"""Composition against its formula in floating point, and exactness outside the mask."""

from collections.abc import Callable

import av
import numpy as np
import pytest

from musetalk_runtime.backends.ort.compose import compose

HEIGHT, WIDTH = 120, 160
Kernel = Callable[[np.ndarray], np.ndarray]
BOXES = [
    (40, 30, 100, 90),  # inside
    (41, 31, 102, 93),  # odd
    (-30, 50, 50, 130),  # over the left and lower edge
    (120, -40, 200, 40),  # over the right and upper edge
    (-20, -20, 180, 140),  # larger than the frame
    (30, 119, 90, 160),  # one row in the frame
    (159, 20, 220, 90),  # one column
    (200, 20, 260, 90),  # beside the frame
    (50, 50, 51, 51),  # a single pixel
]


def make_inputs(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    frame = random.integers(16, 236, (HEIGHT * 3 // 2, WIDTH), dtype=np.uint8)
    face = random.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    y, x = np.mgrid[0:64, 0:64]
    mask = np.clip(600 - 700 * np.hypot((x - 31.5) / 30, (y - 44) / 18), 0, 255).astype(np.uint8)
    return frame, face, mask


def to_yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Y, and U and V, of BT.709 in limited range."""
    kr, kb = 0.2126, 0.0722
    luma = rgb @ [kr, 1 - kr - kb, kb]
    u, v = ((rgb[..., k] - luma) * 112 / 255 / (1 - share) for k, share in ((2, kb), (0, kr)))
    return 16 + luma * 219 / 255, 128 + np.stack([u, v], axis=-1)


def linear(t: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(t), 0, None)


def cubic(t: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' cubic convolution kernel, with OpenCV's parameter."""
    t = np.abs(t)
    near, far = ((a + 2) * t - (a + 3)) * t**2 + 1, a * (((t - 5) * t + 8) * t - 4)
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def stretched(image: np.ndarray, box: tuple[int, ...], kernel: Kernel) -> np.ndarray:
    """`image` stretched over a canvas of the frame's size, half-pixel centres, zeros outside the box."""
    canvas = np.zeros((HEIGHT, WIDTH, *image.shape[2:]))
    x0, y0, x1, y1 = max(0, box[0]), max(0, box[1]), min(WIDTH, box[2]), min(HEIGHT, box[3])
    if x0 < x1 and y0 < y1:
        rows = resampling(np.arange(y0, y1) - box[1], box[3] - box[1], len(image), kernel)
        columns = resampling(np.arange(x0, x1) - box[0], box[2] - box[0], len(image), kernel)
        canvas[y0:y1, x0:x1] = np.einsum("yi,xj,ij...->yx...", rows, columns, image.astype(float), optimize=True)
    return canvas


def resampling(at: np.ndarray, length: int, size: int, kernel: Kernel) -> np.ndarray:
    """How much of each of `size` pixels is in each of those `at` places of `length`; the edge is repeated."""
    place = (at + 0.5) * size / length - 0.5
    shares = np.zeros((len(at), size))
    for tap in range(-1, 3):
        pixel = np.floor(place).astype(int) + tap
        np.add.at(shares, (np.arange(len(at)), np.clip(pixel, 0, size - 1)), kernel(place - pixel))
    return shares


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_equals_the_formula_and_the_frame_outside_the_mask(box: tuple[int, int, int, int], weight: float) -> None:
    frame, face, mask = make_inputs()
    found = frame.copy()
    compose(found, face, mask, box, weight)
    alpha = stretched(mask, box, linear) * weight
    luma, chroma = to_yuv(face)
    under = frame[:HEIGHT].astype(float)
    expected = np.clip(under + (stretched(luma, box, cubic) - under) * alpha / 255, 0, 255)
    assert np.abs(found[:HEIGHT] - expected).max() <= 0.51
    assert np.array_equal(found[:HEIGHT][alpha == 0], frame[:HEIGHT][alpha == 0])

    quads = alpha.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).min(axis=(1, 3))
    mean = stretched(chroma, box, linear).reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 2).mean(axis=(1, 3))
    under = frame[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2).astype(float)
    blended = found[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2)
    assert np.abs(blended - (under + (mean - under) * quads[..., None] / 255)).max() <= 0.51
    assert np.array_equal(blended[quads == 0], frame[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2)[quads == 0])


def test_colours_are_those_of_the_video_library() -> None:
    rgb = np.array([[200, 30, 60]], np.uint8)
    picture = av.VideoFrame.from_ndarray(np.tile(rgb, (64, 64, 1)).reshape(64, 64, 3), format="rgb24")
    expected = picture.reformat(format="nv12", dst_colorspace="ITU709", dst_color_range="MPEG").to_ndarray()
    found = np.zeros((96, 64), np.uint8)
    compose(found, np.tile(rgb, (256, 256, 1)).reshape(256, 256, 3), np.full((64, 64), 255, np.uint8), (0, 0, 64, 64))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_every_position_of_the_box_keeps_the_frame_outside_the_mask() -> None:
    frame, face, mask = make_inputs(1)
    for x in range(-60, WIDTH + 10, 7):
        for y in range(-60, HEIGHT + 10, 11):
            found = frame.copy()
            compose(found, face, mask, (x, y, x + 50, y + 57))
            changed = np.argwhere(found[:HEIGHT] != frame[:HEIGHT])
            if len(changed):
                low, high = changed.min(axis=0), changed.max(axis=0)
                assert low[0] >= y
                assert low[1] >= x
                assert high[0] < y + 57
                assert high[1] < x + 50


def test_an_empty_mask_or_no_weight_changes_nothing() -> None:
    frame, face, mask = make_inputs(2)
    found = frame.copy()
    compose(found, face, np.zeros_like(mask), (10, 10, 90, 90))
    compose(found, face, mask, (10, 10, 90, 90), 0.0)
    assert np.array_equal(found, frame)
