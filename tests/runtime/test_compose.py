"""Composition against its formula in floating point, and exactness outside the mask."""

import av
import numpy as np
import pytest

from musetalk_runtime.backends.ort.compose import compose

HEIGHT, WIDTH = 120, 160
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


def bilinear(image: np.ndarray, box: tuple[int, ...]) -> np.ndarray:
    """`image` stretched over a canvas of the frame's size, half-pixel centres, zeros outside the box."""
    canvas = np.zeros((HEIGHT, WIDTH, *image.shape[2:]))
    size = image.shape[0]
    for y in range(max(0, box[1]), min(HEIGHT, box[3])):
        v = np.clip((y - box[1] + 0.5) * size / (box[3] - box[1]) - 0.5, 0, size - 1)
        for x in range(max(0, box[0]), min(WIDTH, box[2])):
            u = np.clip((x - box[0] + 0.5) * size / (box[2] - box[0]) - 0.5, 0, size - 1)
            i, j = min(int(v), size - 2), min(int(u), size - 2)
            b, a = v - i, u - j
            patch = image[i : i + 2, j : j + 2].astype(float)
            canvas[y, x] = (1 - b) * ((1 - a) * patch[0, 0] + a * patch[0, 1]) + b * (
                (1 - a) * patch[1, 0] + a * patch[1, 1]
            )
    return canvas


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_equals_the_formula_within_two_levels_and_the_frame_outside_the_mask(
    box: tuple[int, int, int, int], weight: float
) -> None:
    frame, face, mask = make_inputs()
    found = frame.copy()
    compose(found, face, mask, box, weight)
    alpha = np.round(np.round(bilinear(mask, box)) * weight)
    rgb = np.round(bilinear(face, box))
    kr, kb = 0.2126, 0.0722
    luma = rgb @ [kr, 1 - kr - kb, kb]
    yuv = np.stack(
        [
            16 + luma * 219 / 255,
            128 + (rgb[..., 2] - luma) * 112 / 255 / (1 - kb),
            128 + (rgb[..., 0] - luma) * 112 / 255 / (1 - kr),
        ],
        axis=-1,
    )
    under = frame[:HEIGHT].astype(float)
    expected = under + (yuv[..., 0] - under) * alpha / 255
    assert np.abs(found[:HEIGHT] - expected).max() <= 2
    assert np.array_equal(found[:HEIGHT][alpha == 0], frame[:HEIGHT][alpha == 0])

    quads = alpha.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).min(axis=(1, 3))
    mean = yuv[..., 1:].reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 2).mean(axis=(1, 3))
    under = frame[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2).astype(float)
    chroma = found[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2)
    assert np.abs(chroma - (under + (mean - under) * quads[..., None] / 255)).max() <= 2
    assert np.array_equal(chroma[quads == 0], frame[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2)[quads == 0])


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
