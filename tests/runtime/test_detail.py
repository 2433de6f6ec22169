"""The detail and the colours of the avatar's frames, given back to generated faces."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.avatar.base_layer import BaseLayer, BaseLayers, lost_sharpness
from musetalk_runtime.avatar.box import Box
from musetalk_runtime.backends.ort.compose import compose
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.prepare.mask import face_mask

SIDE = 64  # pixels of the model
HEIGHT, WIDTH = 240, 320
BOXES: dict[str, Box] = {
    "inside": (60, 20, 240, 220),
    "odd": (61, 21, 238, 223),
    "over the edges": (-40, 60, 150, 290),
    "smaller than the model": (100, 90, 150, 142),
}


def picture(seed: int) -> np.ndarray:
    """An NV12 frame with shapes of all sizes and fine noise."""
    random = np.random.default_rng(seed)
    frame = np.full((HEIGHT * 3 // 2, WIDTH), 110.0)
    for sigma, strength in ((24, 400), (6, 60), (1, 8)):
        frame += cv2.GaussianBlur(random.normal(0, 1, frame.shape), (0, 0), sigma) * strength
    frame[HEIGHT:] = 128 + cv2.GaussianBlur(random.normal(0, 1, frame[HEIGHT:].shape), (0, 0), 20) * 60
    return np.clip(frame, 30, 220).astype(np.uint8)


def generated(base: BaseLayer, gain: float = 1.0, colour: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """A face, RGB, with the luma of `base`; it is grey but for `colour`."""
    grey = (base.levels() - 16) * 255 / 219 * gain
    return np.clip(np.rint(grey[..., None] + np.array(colour)), 0, 255).astype(np.uint8)


def composed(frame: np.ndarray, face: np.ndarray, mask: np.ndarray, box: Box, base: BaseLayer | None) -> np.ndarray:
    found = frame.copy()
    compose(found, face, mask, box, 1.0, base)
    return found[:HEIGHT].astype(int)


def layer(frame: np.ndarray, mask: np.ndarray, box: Box) -> BaseLayer:
    return BaseLayer.of(frame, mask, box, SIDE, lost_sharpness(frame, box, SIDE))


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("gain", [0.9, 1.1])
def test_of_a_face_that_agrees_the_frame_is_left(box: Box, gain: float) -> None:
    frame, mask = picture(1), face_mask(box, None, 1.0)
    face = generated(layer(frame, mask, box), gain)
    found = composed(frame, face, mask, box, layer(frame, mask, box))
    assert np.abs(found - frame[:HEIGHT]).max() <= 2
    without = composed(frame, face, mask, box, None)
    assert np.abs(without - frame[:HEIGHT]).max() > 4


def test_where_the_mouth_differs_no_detail_of_the_frame_is_seen() -> None:
    box, mask = BOXES["inside"], np.full((64, 64), 255, np.uint8)
    frame, rough = picture(2), picture(2)
    noise = np.random.default_rng(0).integers(-12, 13, (HEIGHT, WIDTH))
    rough[:HEIGHT] = np.clip(rough[:HEIGHT] + noise, 0, 255)
    face = generated(layer(frame, mask, box))
    face[36:56, 20:44] = 255 - face[36:56, 20:44]
    base = layer(frame, mask, box)
    smooth, found = (composed(under, face, mask, box, base) for under in (frame, rough))
    x0, y0, x1, y1 = box
    scale_x, scale_y = (x1 - x0) / SIDE, (y1 - y0) / SIDE
    mouth = np.s_[
        round(y0 + 36 * scale_y) : round(y0 + 56 * scale_y), round(x0 + 20 * scale_x) : round(x0 + 44 * scale_x)
    ]
    cheek = np.s_[round(y0 + 36 * scale_y) : round(y0 + 56 * scale_y), x0 : round(x0 + 10 * scale_x)]
    assert np.array_equal(found[mouth], smooth[mouth])
    assert np.abs(found[cheek] - smooth[cheek] - noise[cheek]).mean() < 1


def test_colours_are_those_of_the_frame_around_the_mask() -> None:
    box, mask = BOXES["inside"], face_mask(BOXES["inside"], None, 1.0)
    frame = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    base = layer(frame, mask, box)
    for colour in ((20, 0, 0), (0, 12, -12), (-15, -15, -15)):
        face = generated(base, 1.0, colour)
        found, without = frame.copy(), frame.copy()
        compose(found, face, mask, box, 1.0, base)
        compose(without, face, mask, box)
        assert np.abs(found.astype(int) - frame).max() <= 1
        assert np.abs(without.astype(int) - frame).max() > 4


def test_what_comes_into_the_ring_does_not_count() -> None:
    box, mask = BOXES["inside"], face_mask(BOXES["inside"], None, 1.0)
    frame = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    base = layer(frame, mask, box)
    face = generated(base)
    expected = composed(frame, face, mask, box, base)
    face[: SIDE * 5 // 8, : SIDE // 4] = (20, 90, 20)  # a hand, of whole cells
    assert base.ring[: SIDE * 5 // 32, : SIDE // 16].any()
    found = composed(frame, face, mask, box, base)
    right = np.s_[:, (box[0] + box[2]) // 2 :]
    assert np.array_equal(found[right], expected[right])


def test_a_face_that_agrees_nowhere_is_not_corrected() -> None:
    box, mask = BOXES["inside"], face_mask(BOXES["inside"], None, 1.0)
    frame, face = picture(6), np.zeros((SIDE, SIDE, 3), np.uint8)
    assert (
        composed(frame, face, mask, box, layer(frame, mask, box)).min() == composed(frame, face, mask, box, None).min()
    )


def test_lips_are_sharpened_without_overshoot() -> None:
    box, mask = BOXES["inside"], np.full((64, 64), 255, np.uint8)
    frame = picture(3)
    base = layer(frame, mask, box)
    assert base.sharpening > 0.2
    edge = 130 + 70 * np.tanh((np.arange(SIDE) - SIDE / 2) / 1.5)
    face = np.tile(edge[:, None], (SIDE, 1, 3)).astype(np.uint8)  # agrees nowhere: all of it is sharpened
    x0, y0, x1, y1 = box
    sharp = composed(frame, face, mask, box, base)[y0:y1, x0:x1]
    plain = composed(frame, face, mask, box, replace(base, sharpening=0.0))[y0:y1, x0:x1]
    middle = np.s_[:, (x1 - x0) * 2 // 5 : (x1 - x0) * 3 // 5]
    slope = [np.abs(np.diff(found[middle], axis=1)).max() for found in (sharp, plain)]
    assert slope[0] > slope[1]
    assert sharp.max() <= plain.max() + 2
    assert sharp.min() >= plain.min() - 2


def test_a_box_that_is_smaller_than_the_model_has_lost_nothing() -> None:
    assert lost_sharpness(picture(4), BOXES["smaller than the model"], SIDE) == 0
    assert lost_sharpness(np.full((HEIGHT * 3 // 2, WIDTH), 90, np.uint8), BOXES["inside"], SIDE) == 0


def test_an_empty_mask_has_no_ring_and_changes_no_colour() -> None:
    mask = np.zeros((64, 64), np.uint8)
    base = layer(picture(5), mask, BOXES["inside"])
    assert not base.ring.any()
    face = generated(base)
    full = np.full((64, 64), 255, np.uint8)
    assert np.abs(composed(picture(5), face, full, BOXES["inside"], base) - picture(5)[:HEIGHT]).max() <= 2


def test_base_layers_are_kept_within_a_bound() -> None:
    made: list[int] = []

    def make(index: int) -> BaseLayer:
        made.append(index)
        return layer(picture(index), np.full((64, 64), 255, np.uint8), BOXES["inside"])

    bound = 2 * make(0).nbytes
    layers = BaseLayers(make, bound)
    made.clear()
    for index in (0, 1, 2, 0, 1, 2):
        assert layers[index].luma.shape == (SIDE, SIDE)
    assert made == [0, 1, 2, 2]
    layers.rest()
    assert layers[0].nbytes == bound // 2
    assert made == [0, 1, 2, 2, 0]


def test_an_avatar_has_it_unless_it_is_opened_without(
    avatar: Path, bundle: Path, speech: Callable[[float], Path]
) -> None:
    talks = []
    with Bundle.open(bundle) as engines:
        for detail in ("auto", "off"):
            with Avatar.open(avatar, detail) as opened, Session(engines, opened, speech(1.0), "10") as session:
                assert opened.detail == detail
                assert (opened.base(0) is None) == (detail == "off")
                talks.append(np.stack([frame.nv12 for frame in session.frames()]))
    assert not np.array_equal(*talks)
    with pytest.raises(InvalidArgument, match="detail='most', expected auto or off"):
        Avatar.open(avatar, "most")
