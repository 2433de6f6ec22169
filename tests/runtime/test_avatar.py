"""Reading an avatar back: frames in any order, the order of play, and everything that can be wrong with the folder."""

import dataclasses
import json
import threading
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.avatars import SPEC, make_bundle, write_video
from musetalk_runtime.avatar.frames import FrameStore
from musetalk_runtime.avatar.pack import (
    AVATAR_KIND,
    BOXES,
    FRAMES,
    HAS_FACE,
    LATENTS,
    MASKS,
    ONE_CLIP,
    SEVERAL_CLIPS,
    THUMBNAILS,
    Avatar,
)
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.errors import AvatarMismatch, InputNotFound, InvalidArgument, InvalidFolder
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.storage.folder import MANIFEST, new_folder

COUNT = 7


def pattern(k: int) -> np.ndarray:
    """Frame `k`, RGB [80, 96, 3]."""
    y, x = np.mgrid[0:80, 0:96]
    return np.stack([x * 2 + 3 * k, y * 2 + 50, (x + y + 20 * k) % 256], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar of 7 frames, 96x80 at 25 fps."""
    folder = tmp_path_factory.mktemp("pack")
    video = write_video(folder / "v.mp4", [pattern(k) for k in range(COUNT)])
    with Bundle.open(make_bundle(folder / "bundle")) as bundle:
        prepare_avatar(video, bundle, folder / "avatar", PrepareOptions(face_box=(20, 10, 70, 90)))
    return folder / "avatar"


def test_what_it_says_of_itself(pack: Path) -> None:
    with Avatar.open(pack) as avatar:
        assert (avatar.width, avatar.height, avatar.fps, len(avatar)) == (96, 80, Fraction(25), COUNT)
        assert avatar.encoder_id == SPEC.encoder_id
        assert avatar.latents.shape == (COUNT, 8, 32, 32)
        assert avatar.boxes.tolist() == [[20, 10, 70, 90]] * COUNT
        assert avatar.has_face.all()
        avatar.check(SPEC)


def test_frames_are_the_same_in_any_order_and_equal_a_plain_decode(pack: Path) -> None:
    with av.open(str(pack / FRAMES)) as container:
        stream = container.streams.video[0]
        planes = [frame.to_ndarray(format="nv12") for frame in container.decode(stream)]
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)
    with Avatar.open(pack) as avatar:
        for index in [6, 0, 3, 3, 5, 1, 2, 4, 6, 0]:
            np.testing.assert_array_equal(avatar.frame(index), planes[index])


def test_frames_look_like_the_source(pack: Path) -> None:
    with Avatar.open(pack) as avatar:
        for index in range(COUNT):
            picture = av.VideoFrame.from_ndarray(avatar.frame(index), format="nv12")
            rgb = picture.to_ndarray(format="rgb24", src_colorspace="ITU709").astype(int)
            smooth = np.s_[8:-8, 8:-8, :2]  # the blue ramp wraps round
            assert np.abs(rgb[smooth] - pattern(index)[smooth]).mean() < 4


def test_a_frame_cannot_be_written_to(pack: Path) -> None:
    with Avatar.open(pack) as avatar, pytest.raises(ValueError, match="read-only"):
        avatar.frame(0)[0, 0] = 1


def test_the_cache_keeps_to_its_bound(pack: Path) -> None:
    size = 96 * 80 * 3 // 2
    with FrameStore(pack / FRAMES, 96, 80, cache_bytes=3 * size) as frames:
        first = [frames[index] for index in range(COUNT)]
        again = [frames[index] for index in range(COUNT)]
    assert [a is b for a, b in zip(first, again, strict=True)] == [True] * 3 + [False] * 4
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_threads_share_the_frames(pack: Path) -> None:
    with FrameStore(pack / FRAMES, 96, 80, cache_bytes=0) as frames:
        expected = [frames[index] for index in range(COUNT)]
        wrong: list[int] = []

        def read(seed: int) -> None:
            order = np.random.default_rng(seed).integers(0, COUNT, 50).tolist()
            wrong.extend(index for index in order if not np.array_equal(frames[index], expected[index]))

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_closing_twice_is_fine(pack: Path) -> None:
    avatar = Avatar.open(pack)
    avatar.close()
    avatar.close()
    with pytest.raises(InvalidArgument, match="the avatar is closed"):
        avatar.frame(0)


def test_it_plays_forth_and_back_without_a_jump(pack: Path) -> None:
    with Avatar.open(pack) as avatar:
        order = [avatar.index_at(k, Fraction(25)) for k in range(26)]
        assert order[:14] == [0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0, 1]
        assert all(abs(a - b) == 1 for a, b in pairwise(order))
        assert [avatar.index_at(k, Fraction(50)) for k in range(6)] == [0, 0, 1, 1, 2, 2]  # half rounds down
        assert [avatar.index_at(k, Fraction(25, 2)) for k in range(5)] == [0, 2, 4, 6, 4]
        assert avatar.index_at(30 * 3600 * 10**6, Fraction(30)) == avatar.index_at(25 * 3600 * 10**6, Fraction(25))


def test_another_encoder_is_refused(pack: Path) -> None:
    other = dataclasses.replace(SPEC, encoder_id="f" * 64)
    with Avatar.open(pack) as avatar, pytest.raises(AvatarMismatch) as caught:
        avatar.check(other)
    message = str(caught.value)
    assert SPEC.encoder_id[:12] in message
    assert "f" * 12 in message
    assert "musetalk-edge prepare" in message


def test_another_size_is_refused(pack: Path) -> None:
    with Avatar.open(pack) as avatar, pytest.raises(AvatarMismatch, match="512 pixels"):
        avatar.check(dataclasses.replace(SPEC, image_size=512))


def remade(pack: Path, path: Path, change: Callable[[Path, dict], None], schema: int = ONE_CLIP) -> Path:
    """A copy of `pack` that `change` has altered, with hashes that fit."""
    with new_folder(path, AVATAR_KIND, schema) as (folder, manifest):
        manifest.update(json.loads((pack / MANIFEST).read_text()))
        for name in manifest.pop("files"):
            (folder / name).write_bytes((pack / name).read_bytes())
        for name in ("kind", "schema", "created_by"):
            del manifest[name]
        change(folder, manifest)
    return path


def save(name: str, array: np.ndarray) -> Callable[[Path, dict], None]:
    return lambda folder, _: np.save(folder / name, array, allow_pickle=True)


def write(name: str, data: bytes) -> Callable[[Path, dict], None]:
    return lambda folder, _: (folder / name).write_bytes(data) and None


def declare(**entries: object) -> Callable[[Path, dict], None]:
    return lambda _, manifest: manifest.update(entries)


BROKEN = {
    "shape": (save(LATENTS, np.zeros((COUNT, 8, 16, 16), np.float16)), r"found float16 .*16.* expected float16 .*32"),
    "dtype": (save(BOXES, np.zeros((COUNT, 4), np.float64)), "found float64 .* expected int32"),
    "count": (save(MASKS, np.zeros((2, 64, 64), np.uint8)), r"found uint8 \[2, 64, 64\]"),
    "pickle": (save(HAS_FACE, np.array([{}] * COUNT)), "has_face.npy: not a plain array"),
    "no array": (write(BOXES, b"hello"), "boxes.npy: not a plain array"),
    "empty": (write(MASKS, b""), "masks.npy: not a plain array"),
    "half": (write(LATENTS, np.lib.format.MAGIC_PREFIX), "latents.npy: not a plain array"),
    "box": (save(BOXES, np.full((COUNT, 4), 9, np.int32)), "frame 0 is 0x0 pixels"),
    "missing": (lambda folder, _: (folder / MASKS).unlink(), "does not list masks.npy"),
    "no video": (write(FRAMES, b"hello" * 99), "frames.mp4: not a readable MP4"),
    "frames": (declare(frames=0), "frames is 0"),
    "odd": (declare(width=95), "width is 95"),
    "size": (declare(width=98), "frame 0 is .* expected"),
    "fps": (declare(fps="1/0"), "fps is '1/0'"),
    "fps type": (declare(fps=25), "fps is 25"),
}
CLIPS = [{"name": "idle", "frames": 5}, {"name": "nod", "frames": 2}]
BROKEN_CLIPS = {
    "none": (None, "expected a list of 1 to 32 clips"),
    "empty": ([], "expected a list of 1 to 32 clips"),
    "object": ({"idle": 7}, "expected a list of 1 to 32 clips"),
    "too many": ([{"name": f"c{k}", "frames": 1} for k in range(33)], "expected a list of 1 to 32 clips"),
    "no entry": (["idle"], "a clip's name is 'None'"),
    "no name": ([{"frames": 7}], "a clip's name is 'None'"),
    "name": ([{"name": "../x", "frames": 7}], "a clip's name is '../x'"),
    "line": ([{"name": "idle\n", "frames": 7}], "a clip's name is"),
    "long name": ([{"name": "x" * 10**6, "frames": 7}], "a clip's name is 'x{40}'"),
    "twice": ([CLIPS[0], {**CLIPS[1], "name": "idle"}], "two clips are named 'idle'"),
    "past the end": ([{"name": "idle", "frames": 8}], "has 8 frames, 7 are left"),
    "overlap": ([CLIPS[0], {**CLIPS[1], "frames": 3}], "has 3 frames, 2 are left"),
    "gap": ([CLIPS[0], {**CLIPS[1], "frames": 1}], "the clips have 6 frames, there are 7"),
    "no frame": ([CLIPS[0], {**CLIPS[1], "frames": 0}], "has 0 frames"),
    "negative": ([{"name": "idle", "frames": 9}, {"name": "nod", "frames": -2}], "has 9 frames"),
    "huge": ([{"name": "idle", "frames": 10**4000}], "has 10{39} frames"),
    "number": ([{"name": "idle", "frames": 7.0}], "has 7.0 frames"),
    "flag": ([{"name": "idle", "frames": True}, {"name": "nod", "frames": 6}], "has True frames"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused(name: str, pack: Path, tmp_path: Path) -> None:
    change, message = BROKEN[name]
    path = remade(pack, tmp_path / "broken", change)
    with pytest.raises(InvalidFolder, match=message) as caught, Avatar.open(path) as avatar:
        avatar.frame(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BROKEN_CLIPS)
def test_clips_that_are_not_its_frames_are_refused(name: str, pack: Path, tmp_path: Path) -> None:
    clips, message = BROKEN_CLIPS[name]
    path = remade(pack, tmp_path / "broken", declare(clips=clips), SEVERAL_CLIPS)
    with pytest.raises(InvalidFolder, match=message) as caught:
        Avatar.open(path)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("thumbnails", "message"),
    [
        (np.zeros((COUNT, 32, 32), np.float32), "found float32"),
        (np.zeros((COUNT - 1, 32, 32), np.uint8), r"found uint8 \[6, 32, 32\], expected uint8 \[7, 32, 32\]"),
        (None, "does not list thumbnails.npy"),
    ],
)
def test_clips_need_thumbnails(thumbnails: np.ndarray | None, message: str, pack: Path, tmp_path: Path) -> None:
    def change(folder: Path, manifest: dict) -> None:
        manifest["clips"] = CLIPS
        if thumbnails is not None:
            np.save(folder / THUMBNAILS, thumbnails)

    with pytest.raises(InvalidFolder, match=message):
        Avatar.open(remade(pack, tmp_path / "broken", change, SEVERAL_CLIPS))


def test_an_avatar_of_the_first_schema_has_one_clip_whatever_else_it_says(pack: Path, tmp_path: Path) -> None:
    with Avatar.open(remade(pack, tmp_path / "old", declare(clips=CLIPS))) as avatar:
        assert avatar.poses == ("idle",)
        assert [avatar.index_at(k, Fraction(25)) for k in range(COUNT)] == list(range(COUNT))


def test_a_later_schema_is_refused_by_its_number(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidFolder, match=r"schema 3, this version .* reads 1 and 2"):
        Avatar.open(remade(pack, tmp_path / "later", declare(), 3))


def test_a_video_that_is_not_all_keyframes_is_refused(pack: Path, tmp_path: Path) -> None:
    def change(folder: Path, _: dict) -> None:
        write_video(folder / FRAMES, [pattern(k) for k in range(COUNT)])

    with pytest.raises(InvalidFolder, match="keyframes only"):
        Avatar.open(remade(pack, tmp_path / "broken", change))


def test_damage_is_found_by_its_hash(pack: Path, tmp_path: Path) -> None:
    path = remade(pack, tmp_path / "damaged", declare())
    with (path / MASKS).open("r+b") as file:
        file.seek(200)
        file.write(b"\xff\xfe")
    with pytest.raises(InvalidFolder, match=r"masks\.npy: .* hash"):
        Avatar.open(path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no such avatar"):
        Avatar.open(tmp_path / "none")
