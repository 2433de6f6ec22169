"""Sources with transparency: on a colour, or kept, as far as VP9 with alpha in WebM."""

import json
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from helpers.media import moving_picture
from helpers.poses import BOX
from helpers.processes import EDGE
from musetalk_runtime import Avatar, Bundle, InvalidArgument, InvalidFolder, Session
from musetalk_runtime.avatar.pack import ALPHA
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.prepare.source.video import VideoSource
from musetalk_runtime.storage.folder import MANIFEST

Speech = Callable[[float], Path]
GREEN = np.array((0, 255, 0))
COUNT = 8
WIDTH = 80  # pixels at the left of a frame that are transparent; then as many half transparent


def cut_out(k: int) -> np.ndarray:
    """Frame `k` of a moving picture that is partly transparent, RGBA [240, 320, 4]."""
    alpha = np.full((240, 320, 1), 255, np.uint8)
    alpha[:, : 2 * WIDTH] = 128
    alpha[:, :WIDTH] = 0
    return np.concatenate([moving_picture(k), alpha], axis=2)


def write(file: Path, codec: str, pixels: str) -> Path:
    with av.open(str(file), "w") as container:
        options = {"crf": "4", "b": "0", "auto-alt-ref": "0"} if "vp" in codec else {}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 240, pixels
        for k in range(COUNT):
            frame = av.VideoFrame.from_ndarray(cut_out(k), format="rgba").reformat(format=pixels)
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


def write_photo(file: Path, *_: str) -> Path:
    cv2.imwrite(str(file), cv2.cvtColor(cut_out(0), cv2.COLOR_RGBA2BGRA))
    return file


def write_by_pillow(file: Path, *_: str) -> Path:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: the extra heif")
    pytest.importorskip("pillow_heif").register_heif_opener()
    image.fromarray(cut_out(0)).save(file, quality=95)
    return file


SOURCES = {
    "person.png": (write_photo, "", ""),
    "person.webp": (write_photo, "", ""),
    "person.webm": (write, "libvpx-vp9", "yuva420p"),
    "vp8.webm": (write, "libvpx", "yuva420p"),
    "prores.mov": (write, "prores_ks", "yuva444p10le"),
    "animation.mov": (write, "qtrle", "argb"),
    "person.apng": (write, "apng", "rgba"),
    "person.heic": (write_by_pillow, "", ""),
    "person.avif": (write_by_pillow, "", ""),
}


@pytest.mark.parametrize("name", SOURCES)
def test_transparent_parts_show_the_background(name: str, tmp_path: Path) -> None:
    make, *codec = SOURCES[name]
    path = make(tmp_path / name, *codec)
    source = VideoSource(path, 60, background=(0, 255, 0))
    frames = list(source.frames())
    assert source.transparent
    assert not source.warnings
    assert len(frames) == (COUNT if make is write else 1)
    for k, frame in enumerate(frames):
        picture = moving_picture(k).astype(int)
        half = (picture + GREEN) // 2
        assert np.abs(frame[:, 4 : WIDTH - 4] - GREEN).mean() < 3
        assert np.abs(frame[:, WIDTH + 4 : 2 * WIDTH - 4] - half[:, WIDTH + 4 : 2 * WIDTH - 4]).mean() < 4
        assert np.abs(frame[:, 2 * WIDTH + 4 :] - picture[:, 2 * WIDTH + 4 :]).mean() < 4
    for picture in source.pictures():
        assert picture.shape == (240, 320, 4)
        assert picture[:, : WIDTH - 4].max() < 8  # colours are times alpha


def test_a_gif_shows_the_background_where_it_has_no_colour(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: the extra heif")
    picture = cut_out(0)
    picture[..., 3] = np.where(picture[..., 3] < 255, 0, 255)
    frames = [image.fromarray(np.roll(picture, k, axis=0)) for k in range(3)]
    frames[0].save(tmp_path / "person.gif", save_all=True, append_images=frames[1:], disposal=2, duration=40)
    for frame in VideoSource(tmp_path / "person.gif", 60, background=(0, 255, 0)).frames():
        assert (frame[:, : 2 * WIDTH] == GREEN).all()
        assert np.abs(frame[:, 2 * WIDTH :] - GREEN).mean() > 50


def test_a_source_without_transparency_is_told_and_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "opaque.png"
    cv2.imwrite(str(file), cv2.cvtColor(moving_picture(0), cv2.COLOR_RGB2BGR))
    source = VideoSource(file, 60, background=(0, 255, 0))
    assert np.array_equal(next(source.frames()), moving_picture(0))
    assert ["nothing of it is transparent" in warning for warning in source.warnings] == [True]


@pytest.mark.parametrize("text", ["green", "#0f0", "#00ff0", "#00ff00 ", "#gg0000", "", "Alpha", "x" * 10**5])
def test_what_is_no_background_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected a colour such as '#00ff00', or alpha") as caught:
        PrepareOptions(background=text)
    assert len(str(caught.value)) < 200


def test_an_avatar_on_a_colour_is_as_any_other(bundle: Path, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "person.png")
    with Bundle.open(bundle) as opened:
        options = PrepareOptions(face_box=BOX, background="#00ff00")
        report = prepare_avatar(photo, opened, tmp_path / "avatar", options)
    assert report.warnings == ()
    with Avatar.open(tmp_path / "avatar") as avatar:
        assert avatar.alpha(0) is None
        assert np.abs(avatar.frame(0)[:240, : WIDTH - 8].astype(int) - 173).max() <= 2  # green, in BT.709


@pytest.fixture(scope="module")
def transparent(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar with alpha."""
    folder = tmp_path_factory.mktemp("transparent")
    source = write(folder / "person.webm", "libvpx-vp9", "yuva420p")
    with Bundle.open(bundle) as opened:
        prepare_avatar(source, opened, folder / "avatar", PrepareOptions(face_box=BOX, background="alpha"))
    return folder / "avatar"


@pytest.fixture
def opened(bundle: Path, transparent: Path) -> Iterator[tuple[Bundle, Avatar]]:
    with Bundle.open(bundle) as b, Avatar.open(transparent) as a:
        yield b, a


def test_an_avatar_keeps_alpha_without_loss_on_black_frames(opened: tuple[Bundle, Avatar]) -> None:
    _, avatar = opened
    assert len(avatar) == COUNT
    for k in range(COUNT):
        alpha = avatar.alpha(k)
        assert alpha is not None
        assert (alpha.shape, alpha.dtype) == ((240, 320), np.uint8)
        assert np.abs(alpha.astype(int) - cut_out(k)[..., 3]).max() <= 2  # VP9's loss
        assert np.abs(avatar.frame(k)[:240, : WIDTH - 8].astype(int) - 16).max() <= 4
    avatar.rest()
    assert avatar.alpha(0) is not None


def test_a_broken_alpha_is_refused_and_one_that_is_not_listed_is_none(transparent: Path, tmp_path: Path) -> None:
    manifest = json.loads((transparent / MANIFEST).read_text())
    del manifest["files"][ALPHA]
    for file in transparent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with Avatar.open(tmp_path) as avatar:
        assert avatar.alpha(0) is None
    (tmp_path / ALPHA).write_bytes(b"hello")
    manifest["files"][ALPHA] = {
        "bytes": 5,
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    }
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InvalidFolder, match=r"alpha\.mp4: not a readable MP4"):
        Avatar.open(tmp_path)


def decoded(file: Path) -> tuple[list[np.ndarray], list[str]]:
    """The frames of a WebM file, RGBA [H, W, 4], and the codecs in it."""
    frames = []
    with av.open(str(file)) as container:
        codecs = [stream.codec_context.name for stream in container.streams]
        assert sum(frame.samples for frame in container.decode(audio=0)) > 0
    with av.open(str(file)) as container:
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        for packet in container.demux(video=0):
            frames += [frame.to_ndarray(format="rgba") for frame in decoder.decode(packet)]
    return frames, codecs


def test_a_webm_has_the_alpha_and_the_colours_of_the_source(
    bundle: Path, transparent: Path, speech: Speech, tmp_path: Path
) -> None:
    talk = tmp_path / "talk.webm"
    command = [*EDGE, "stream", "-b", bundle, "-a", transparent, "--audio", speech(2.0), "--fps", "25", "-o", talk]
    made = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    frames, codecs = decoded(talk)
    assert codecs == ["vp9", "opus"]
    assert len(frames) == 50
    with Avatar.open(transparent) as avatar:
        for k, frame in enumerate(frames):
            source = cut_out(avatar.index_at(k, Fraction(25)))
            assert np.abs(frame[..., 3].astype(int) - source[..., 3]).mean() < 4
            part = np.s_[:, WIDTH + 8 : 2 * WIDTH - 8, :3]  # half transparent, and yet in full colour
            assert np.abs(frame[part].astype(int) - source[part]).mean() < 8
    refused = subprocess.run(
        [str(part) for part in [*command, "--encoder", "x264"]], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "WebM has VP9" in refused.stderr


def test_frames_of_python_have_alpha_and_an_mp4_is_on_black(opened: tuple[Bundle, Avatar], speech: Speech) -> None:
    bundle, avatar = opened
    with Session(bundle, avatar, speech(1.0), fps=25) as session:
        frames = list(session.frames())
    assert all(np.array_equal(one.alpha, avatar.alpha(avatar.index_at(one.index, Fraction(25)))) for one in frames)
    assert all(frame.rgb()[:, : WIDTH - 8].max() <= 6 for frame in frames)


def test_an_opaque_avatar_makes_an_opaque_webm(bundle: Path, avatar: Path, speech: Speech, tmp_path: Path) -> None:
    talk = tmp_path / "talk.webm"
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a, Session(b, a, speech(1.0), fps=25) as session:
        talk.write_bytes(b"".join(session.stream("webm")))
        shown = [a.frame(a.index_at(k, Fraction(25))) for k in range(25)]
    with av.open(str(talk)) as container:
        assert "alpha_mode" not in container.streams.video[0].metadata
        frames = [frame.to_ndarray(format="nv12") for frame in container.decode(video=0)]
    assert [np.abs(one.astype(int) - other).mean() < 6 for one, other in zip(frames, shown, strict=True)] == [True] * 25


def test_alpha_fades_as_the_frames_do(bundle: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "one.webm", "libvpx-vp9", "yuva420p")
    opaque = tmp_path / "other.png"
    cv2.imwrite(str(opaque), cv2.cvtColor(moving_picture(3), cv2.COLOR_RGB2BGR))
    options = PrepareOptions(face_box=BOX, background="alpha")
    with Bundle.open(bundle) as b:
        prepare_avatar({"idle": source, "other": opaque}, b, tmp_path / "avatar", options)
        with Avatar.open(tmp_path / "avatar") as a, Session(b, a, [bytes(2 * 32_000)], fps=25) as session:
            session.pose("other", repeat=True)
            alphas = [frame.alpha for frame in session.frames()]
    left = [int(alpha[:, :WIDTH].mean()) for alpha in alphas if alpha is not None]
    steps = np.diff(left)
    assert (left[0], left[-1]) == (0, 255)
    assert (steps >= 0).all()
    assert steps.max() <= 255 / 9 + 2
