"""``musetalk-edge prepare`` from end to end, on real faces and on input that is no good."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.avatars import SPEC, YUNET, data_file, make_bundle, solid, write_video
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.cli import prepare
from musetalk_runtime.core.errors import (
    FaceNotFound,
    InputNotFound,
    InvalidArgument,
    InvalidMedia,
    MuseTalkEdgeError,
    OutputError,
)
from musetalk_runtime.prepare.face import FaceDetector
from musetalk_runtime.prepare.latents import encode_faces
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.prepare.source import video_file
from musetalk_runtime.prepare.source.video import VideoSource


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with Bundle.open(make_bundle(tmp_path_factory.mktemp("bundle") / "pooling")) as opened:
        yield opened


@pytest.fixture(scope="module")
def face_frame() -> np.ndarray:
    """One frame of a real face, RGB [608, 352, 3]."""
    frame = next(iter(VideoSource(data_file("yongen.mp4"), 60).frames()))
    return cv2.resize(frame, (352, 608), interpolation=cv2.INTER_AREA)


@pytest.mark.slow
def test_every_frame_of_a_real_video_has_the_face(bundle: Bundle, tmp_path: Path) -> None:
    stages: dict[str, int] = {}
    report = prepare_avatar(
        data_file("yongen.mp4"),
        bundle,
        tmp_path / "avatar",
        PrepareOptions(face_model=data_file(YUNET), preview=tmp_path / "look.png", max_seconds=3.0),
        lambda stage, done, total: stages.update({stage: done * 1000 + total}),
    )
    assert (report.frames, report.faces, report.fps, report.cut) == (75, 75, Fraction(25), True)
    assert list(stages.values()) == [75075, 75075]
    with Avatar.open(tmp_path / "avatar") as avatar:
        assert (avatar.width, avatar.height, len(avatar)) == (704, 1216, 75)
        assert avatar.has_face.all()
        assert np.abs(np.diff(avatar.boxes, axis=0)).max() < 15
        assert np.isfinite(avatar.latents).all()
        assert avatar.latents.any(axis=(1, 2, 3)).all()
    sheet = cv2.imread(str(tmp_path / "look.png"))
    assert sheet.shape[0] == 2 * 480


@pytest.mark.parametrize(
    ("name", "box"),
    [("monalisa.png", (107, 69, 72, 92)), ("sit.jpeg", (170, 130, 73, 92))],
    ids=["painting", "drawing"],
)
def test_a_photo_becomes_a_still_avatar(
    name: str, box: tuple[int, int, int, int], bundle: Bundle, tmp_path: Path
) -> None:
    options = PrepareOptions(face_model=data_file(YUNET), preview=tmp_path / "look.png")
    report = prepare_avatar(data_file(name), bundle, tmp_path / "avatar", options)
    assert (report.frames, report.faces) == (1, 1)
    x, y, width, height = box
    with Avatar.open(tmp_path / "avatar") as avatar:
        x0, y0, x1, y1 = avatar.boxes[0].tolist()
        assert (x0, x1) == pytest.approx((x, x + width), abs=2)
        chin = y + height
        assert y1 == pytest.approx(chin + 0.04 * (chin - y0), abs=4)
        assert [avatar.index_at(k, Fraction(25)) for k in (0, 1, 999)] == [0, 0, 0]


def test_frames_without_the_face_are_played_as_they_are(bundle: Bundle, face_frame: np.ndarray, tmp_path: Path) -> None:
    blank, hidden = np.full_like(face_frame, 90), face_frame.copy()
    x0, y0, x1, y1 = FaceDetector(data_file(YUNET)).detect(face_frame)[0][:4].astype(int)
    hidden[y0:y1, x0:x1] = 90
    # at 10 fps half a second is 5 frames: a gap of 2 in the same scene is bridged, one of 7 is not, nor are the ends
    shown = [blank] * 2 + [face_frame] * 4 + [hidden] * 2 + [face_frame] * 4 + [blank] * 2 + [face_frame] * 2
    shown += [hidden] * 7 + [face_frame] * 2 + [blank]
    video = write_video(tmp_path / "v.mp4", shown, rate=Fraction(10))
    report = prepare_avatar(video, bundle, tmp_path / "avatar", PrepareOptions(face_model=data_file(YUNET)))
    expected = [False] * 2 + [True] * 10 + [False] * 2 + [True] * 2 + [False] * 7 + [True] * 2 + [False]
    assert (report.frames, report.faces) == (26, 14)
    with Avatar.open(tmp_path / "avatar") as avatar:
        assert avatar.has_face.tolist() == expected
        for stored in (avatar.latents, avatar.masks, avatar.boxes):
            assert stored.reshape(26, -1).any(axis=1).tolist() == expected


@pytest.mark.parametrize("box", [None, (8, 8, 40, 40)], ids=["finding faces", "face box"])
def test_a_video_is_decoded_twice(
    bundle: Bundle, tmp_path: Path, box: tuple[int, int, int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once to know its timing and to find the faces, once to encode its frames."""
    opened: list[Path] = []
    real = video_file.open_media

    def counted(path: Path, formats: str, **options: str) -> object:
        opened.append(path)
        return real(path, formats, **options)

    monkeypatch.setattr(video_file, "open_media", counted)
    path = write_video(tmp_path / "v.mp4", [solid((50, 50, 50))] * 5)
    options = PrepareOptions(face_box=box) if box else PrepareOptions(face_model=data_file(YUNET))
    with nullcontext() if box else pytest.raises(FaceNotFound):
        prepare_avatar(path, bundle, tmp_path / "avatar", options)
    assert opened == [path] * (2 if box else 1)


def test_a_given_box_needs_no_detector(bundle: Bundle, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [solid((60, 120, 180))] * 9)
    report = prepare_avatar(video, bundle, tmp_path / "avatar", PrepareOptions(face_box=(-10, 8, 30, 60)))
    assert (report.frames, report.faces) == (9, 9)
    with Avatar.open(tmp_path / "avatar") as avatar:
        assert avatar.boxes.tolist() == [[-10, 8, 30, 60]] * 9
        masked, whole = np.split(avatar.latents[4].astype(float), 2)
        means = np.array([60, 120, 180, 120]) / 255
        assert whole.mean(axis=(1, 2)) == pytest.approx(means, abs=0.02)
        assert masked[:, :16].mean(axis=(1, 2)) == pytest.approx(means, abs=0.02)
        assert not masked[:, 16:].any()


def test_latents_are_those_of_the_half_black_face_then_the_face(bundle: Bundle) -> None:
    size = SPEC.image_size
    crops = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    latents = encode_faces(bundle, crops)
    pooled = crops.reshape(3, 32, 8, 32, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 255
    assert latents.shape == (3, 8, 32, 32)
    np.testing.assert_allclose(latents[:, 4:7], pooled, atol=1e-5)
    np.testing.assert_allclose(latents[:, :3, :16], pooled[:, :, :16], atol=1e-5)
    assert not latents[:, :4, 16:].any()


def test_an_older_avatar_is_replaced_and_kept_when_it_fails(bundle: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "avatar"
    for length in (3, 5):
        video = write_video(tmp_path / "v.mp4", [solid((60, 120, 180))] * length)
        prepare_avatar(video, bundle, output, PrepareOptions(face_box=(8, 8, 40, 40)))
    with pytest.raises(InvalidMedia):
        prepare_avatar(Path(__file__), bundle, output, PrepareOptions(face_box=(8, 8, 40, 40)))
    with Avatar.open(output) as avatar:
        assert len(avatar) == 5


BAD_OPTIONS = [
    ({"face_box": (0, 0, 10, 40)}, InvalidArgument, "--face-box 0,0,10,40 is 10x40"),
    ({"face_box": (64, 0, 100, 40)}, InvalidArgument, "outside the frame of 64x48"),
    ({}, InvalidArgument, "--face-model FILE"),
    ({"face_model": Path("none.onnx")}, InputNotFound, "no such face detector"),
    ({"face_model": Path(__file__)}, InvalidArgument, "expected YuNet"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_bad_options_leave_nothing(
    options: dict, error: type[MuseTalkEdgeError], message: str, bundle: Bundle, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "v.mp4", [solid((60, 120, 180))] * 3)
    with pytest.raises(error, match=message):
        prepare_avatar(video, bundle, tmp_path / "avatar", PrepareOptions(**options))
    assert list(tmp_path.iterdir()) == [video]


@pytest.mark.parametrize(
    "options",
    [
        {"mask_extent": 0.4},
        {"mask_extent": float("nan")},
        {"max_seconds": 0.0},
        {"max_seconds": float("nan")},
        {"preview": Path("look.jpg")},
        {"face_model": Path("m"), "face_box": (0, 0, 20, 20)},
    ],
)
def test_options_out_of_range(options: dict) -> None:
    with pytest.raises(InvalidArgument, match="--"):
        PrepareOptions(**options)


def test_no_face_says_what_to_do(bundle: Bundle, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [solid((60, 120, 180), 128, 128)] * 3)
    with pytest.raises(FaceNotFound, match=r"no face found in 3 frames.*--face-box"):
        prepare_avatar(video, bundle, tmp_path / "avatar", PrepareOptions(face_model=data_file(YUNET)))
    assert list(tmp_path.iterdir()) == [video]


def test_a_video_that_breaks_off_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    shutil.copyfile(data_file("yongen.mp4"), video)
    video.chmod(0o644)
    video.write_bytes(video.read_bytes()[:900_000])
    with pytest.raises(InvalidMedia, match=r"v\.mp4"):
        prepare_avatar(video, bundle, tmp_path / "avatar", PrepareOptions(face_box=(8, 8, 40, 40)))
    assert list(tmp_path.iterdir()) == [video]


def test_an_error_while_writing_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [solid((60, 120, 180))] * 9)

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt(stage, done, total)

    with pytest.raises(KeyboardInterrupt):
        prepare_avatar(video, bundle, tmp_path / "avatar", PrepareOptions(face_box=(8, 8, 40, 40)), stop)
    assert list(tmp_path.iterdir()) == [video]


def test_a_preview_that_cannot_be_written_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [solid((60, 120, 180))] * 2)
    look = tmp_path / "look.png"
    look.mkdir()
    with pytest.raises(OutputError, match=r"look\.png: cannot be written"):
        prepare_avatar(video, bundle, tmp_path / "avatar", PrepareOptions(face_box=(8, 8, 40, 40), preview=look))
    assert sorted(tmp_path.iterdir()) == [look, video]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    prepare.add_parser(parser.add_subparsers())
    return parser.parse_args(["prepare", *arguments])


def test_the_command(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "v.mp4", [solid((60, 120, 180))] * 30)
    arguments = [str(video), "-b", str(bundle.path), "-o", str(tmp_path / "avatar"), "--face-box=-4,8,40,48", "--json"]
    args = parse(*arguments, "--max-seconds", "1", "--preview", str(tmp_path / "look.png"))
    assert args.run(args) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "frames": 25,
        "faces": 25,
        "fps": "25/1",
        "width": 64,
        "height": 48,
        "cut": True,
        "warnings": [],
        "poses": {"idle": 25},
    }
    assert "longer than 1 s" in err
    assert "25 frames of 64x48 at 25 fps, a face in 25" in err
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "1,2,3,4,5", "1.5,2,3,4"])
def test_a_face_box_that_is_none(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        parse("v.mp4", "-b", "b", "-o", "o", "--face-box", box)
    capsys.readouterr()


def test_reading_an_avatar_needs_no_opencv() -> None:
    code = "import sys, musetalk_runtime.avatar, musetalk_runtime.cli.prepare; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_large_photo_is_told_with_its_rate_and_can_be_scaled_down(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.full((1800, 1200, 3), 90, np.uint8))
    files = [
        str(tmp_path / "p.png"),
        "-b",
        str(bundle.path),
        "-o",
        str(tmp_path / "a"),
        "--face-box",
        "300,300,900,900",
    ]
    for options, size, told in (([], "1200x1800", True), (["--max-side", "900"], "600x900", False)):
        args = parse(*files, *options)
        assert args.run(args) == 0
        said = capsys.readouterr().err
        assert f"frames of {size}" in said
        assert ("such frames a second here" in said) == told
