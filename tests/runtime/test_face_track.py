"""Following a face: gaps, cuts, several faces, smoothing; and the box, crop and mask that come of it."""

import numpy as np
import pytest

from helpers.media import moving_picture
from musetalk_runtime.avatar.box import MIDDLE, box_problem, face_box, hidden_rows
from musetalk_runtime.avatar.crop import crop_face
from musetalk_runtime.avatar.pack import MASK_SIZE
from musetalk_runtime.backends.ort.compose import compose
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.prepare.face import Faces
from musetalk_runtime.prepare.mask import MAX_EXTENT, face_mask
from musetalk_runtime.prepare.scene import scene_of
from musetalk_runtime.prepare.track import follow_face


def face_at(x: float, y: float = 100, size: float = 100) -> Faces:
    """One face ``[14]`` whose box starts at x, y."""
    landmarks = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.65), (0.35, 0.8), (0.65, 0.8)]
    points = [(x + size * u, y + size * v) for u, v in landmarks]
    return np.array([x, y, x + size, y + size, *np.ravel(points)])


def seen(*faces: Faces) -> Faces:
    return np.array(faces).reshape(-1, 14)


def follow(sightings: list[Faces], max_gap: int, scenes: list[Floats] | None = None) -> Faces:
    """`follow_face`, in one scene where nothing else is said."""
    return follow_face(sightings, scenes or [scene_of(moving_picture(0))] * len(sightings), max_gap)


def test_a_still_face_is_kept_to_the_bit_of_a_pixel() -> None:
    path = follow([seen(face_at(50))] * 9, max_gap=3)
    np.testing.assert_allclose(path, np.tile(face_at(50), (9, 1)))


def test_a_short_gap_is_interpolated_and_a_long_one_is_left() -> None:
    present = [0, 1, 2, 3, 6, 7, 8, 9, 14, 15, 16, 17]
    sightings = [seen(face_at(2.0 * k)) if k in present else seen() for k in range(20)]
    path = follow(sightings, max_gap=2)
    missing = np.flatnonzero(np.isnan(path[:, 0])).tolist()
    assert missing == [10, 11, 12, 13, 18, 19]
    assert path[4, 0] == pytest.approx(8, abs=0.5)
    assert path[5, 0] == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("between", ["black", "white", "another scene"])
def test_a_gap_that_shows_something_else_is_no_face(between: str) -> None:
    here = moving_picture(0)
    other = {"black": np.zeros_like(here), "white": np.full_like(here, 255), "another scene": 255 - here}
    scenes = [scene_of(other[between] if k in {4, 5} else moving_picture(k)) for k in range(10)]
    sightings = [seen() if k in {3, 4, 5, 6} else seen(face_at(50)) for k in range(10)]
    path = follow(sightings, 12, scenes)
    assert np.flatnonzero(np.isnan(path[:, 0])).tolist() == [4, 5]
    assert path[[3, 6], 0] == pytest.approx(50)


def test_a_cut_is_not_smoothed_over() -> None:
    path = follow([seen(face_at(50))] * 5 + [seen(face_at(400))] * 5, max_gap=12)
    assert path[:, 0].tolist() == pytest.approx([50] * 5 + [400] * 5)


def test_a_face_in_the_place_of_another_after_a_cut_is_not_smoothed_with_it() -> None:
    scenes = [scene_of(moving_picture(0))] * 5 + [scene_of(255 - moving_picture(0))] * 5
    path = follow([seen(face_at(50))] * 5 + [seen(face_at(90))] * 5, 12, scenes)
    assert path[:, 0].tolist() == pytest.approx([50] * 5 + [90] * 5)


def test_jitter_is_smoothed() -> None:
    noise = np.random.default_rng(0).normal(0, 2, 60)
    path = follow([seen(face_at(100 + shift)) for shift in noise], max_gap=12)
    assert np.abs(np.diff(path[:, 0])).mean() < 0.25 * np.abs(np.diff(noise)).mean()


def test_the_largest_face_is_followed_while_others_come_and_go() -> None:
    small, large = face_at(500, size=60), face_at(50)
    sightings = [seen(small, large), seen(large), seen(small), seen(small), seen(large, small), seen(small)]
    path = follow(sightings, max_gap=12)
    assert path[:5, 0].tolist() == pytest.approx([50] * 5)
    assert path[5, 0] == pytest.approx(500)  # it is gone for good: the other one takes over


def test_the_box_follows_the_rule() -> None:
    # chin 200; eyes at 140, nose at 165: half = 140 + 0.6 * 25 = 155; top = 110; bottom = 200 + 0.04 * 90 = 203.6
    assert face_box(face_at(50)) == (50, 110, 150, 204)


def test_no_box_for_a_nose_below_the_chin_or_a_tiny_face() -> None:
    upside_down = face_at(50)
    upside_down[9] = 201
    assert face_box(upside_down) is None
    assert face_box(face_at(50, size=15)) is None


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((0, 0, 16, 16), None),
        ((-20, -20, 1, 1), None),
        ((0, 0, 15, 16), "is 15x16 pixels"),
        ((50, 0, 20, 40), "is -30x40 pixels"),
        ((0, 0, 401, 40), "expected 16 to 400"),
        ((-20, 0, 0, 20), "outside the frame of 100x80"),
        ((0, 80, 20, 100), "outside the frame of 100x80"),
    ],
)
def test_box_problem(box: tuple[int, int, int, int], problem: str | None) -> None:
    found = box_problem(box, 100, 80)
    assert found is None if problem is None else problem in str(found)


def test_a_crop_that_leaves_the_frame_repeats_its_edge() -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, 0], rgb[:, 1:] = 200, 80
    crop = crop_face(rgb, (-32, 0, 32, 64), 64)
    assert crop.shape == (64, 64, 3)
    assert (crop[:, :33] == 200).all()
    assert (crop[:, 33:] == 80).all()


def test_a_crop_past_the_corner() -> None:
    rgb = np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
    crop = crop_face(rgb, (16, 16, 48, 48), 32)
    np.testing.assert_array_equal(crop[:16, :16], rgb[16:, 16:])
    assert (crop[16:, 16:] == rgb[31, 31]).all()


@pytest.mark.parametrize("extent", [0.5, 1.0, 1.6])
@pytest.mark.parametrize("mouth", [0.1, 0.5, 0.9])
def test_the_mask_is_soft_and_stays_in_the_lower_half(extent: float, mouth: float) -> None:
    landmarks = face_at(0)[4:].reshape(5, 2)
    landmarks[3:, 0] = 100 * mouth
    mask = face_mask((0, 10, 100, 104), landmarks, extent).astype(int)
    assert mask.shape == (MASK_SIZE, MASK_SIZE)
    assert mask[[0, -1]].max() == 0
    assert mask[:, [0, -1]].max() == 0
    assert mask[: int(MIDDLE * MASK_SIZE)].max() == 0
    assert mask.max() == 255
    assert max(np.abs(np.diff(mask, axis=0)).max(), np.abs(np.diff(mask, axis=1)).max()) < 90


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("side", [16, 61, 256, 700])
def test_hidden_rows_are_never_shown(size: int, side: int) -> None:
    random = np.random.default_rng(size + side)
    box = (10, 7, 10 + side, 7 + side)
    landmarks = np.tile([[10 + side / 2, 0.0]], (5, 1))  # a mouth as high as one is believed
    mask = face_mask(box, landmarks, MAX_EXTENT)
    face = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
    black = face.copy()
    black[: hidden_rows(size)] = 0
    assert hidden_rows(size) > 0.35 * size
    frame = random.integers(0, 256, (720 * 3 // 2, 720), dtype=np.uint8)
    one, other = frame.copy(), frame.copy()
    compose(one, face, mask, box)
    compose(other, black, mask, box)
    assert (one != frame).any()
    np.testing.assert_array_equal(one, other)


def test_the_mask_grows_with_its_extent_and_follows_the_mouth() -> None:
    box = (0, 10, 100, 104)
    areas = [int(face_mask(box, None, extent).sum()) for extent in (0.5, 0.8, 1.0, 1.3, 1.6)]
    assert areas == sorted(areas)
    whole = face_mask(box, None, 1.6)[int(0.6 * MASK_SIZE) : int(0.9 * MASK_SIZE), 8:-8]
    assert whole.min() > 230
    landmarks = face_at(0)[4:].reshape(5, 2)
    landmarks[3:, 0] -= 20
    columns = np.arange(MASK_SIZE)
    centre = np.average(columns, weights=face_mask(box, None, 1.0).sum(axis=0))
    assert np.average(columns, weights=face_mask(box, landmarks, 1.0).sum(axis=0)) < centre - 5


FRONTAL = np.array([[35.0, 40], [65, 40], [50, 60], [38, 78], [62, 78]])  # in a box of 100 by 100


def test_the_mask_ends_at_the_jaw_of_a_face_that_is_turned() -> None:
    frontal = face_mask((0, 0, 100, 100), FRONTAL, 1.0)
    assert np.array_equal(frontal, frontal[:, ::-1])
    turned = FRONTAL - [[0, 0], [0, 0], [10, 0], [4, 0], [4, 0]]
    mirrored = turned[[1, 0, 2, 4, 3]] * [-1, 1] + [100, 0]
    masks = face_mask((0, 0, 100, 100), turned, 1.0), face_mask((0, 0, 100, 100), mirrored, 1.0)[:, ::-1]
    assert np.array_equal(*masks)
    edges = [np.flatnonzero(mask[int(0.85 * MASK_SIZE)] > 128)[0] for mask in (frontal, masks[0])]
    assert edges[1] >= edges[0]  # though the mouth is farther to the left


@pytest.mark.parametrize("degrees", [-30, 0, 30])
def test_the_mask_is_tilted_with_the_face_and_shows_the_mouth(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    mouth = FRONTAL[3:].mean(axis=0)
    landmarks = (FRONTAL - mouth) @ turn + mouth
    mask = face_mask((0, 0, 100, 100), landmarks, 1.0).astype(int)
    for x, y in (landmarks[3:] * MASK_SIZE / 100).astype(int).tolist():
        assert mask[y, x] > 128
    corner = int(0.9 * MASK_SIZE)
    left, right = mask[corner, : MASK_SIZE // 4].sum(), mask[corner, -MASK_SIZE // 4 :].sum()
    assert np.sign(round((left - right) / 100)) == -np.sign(degrees)  # the cheek that is lower
