"""Videos and photos as upright RGB frames: timing, rotation, sizes, colours, limits."""

import errno
import os
import struct
import sys
import zlib
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from helpers.avatars import solid, write_video
from musetalk_runtime.core.errors import InputNotFound, InvalidMedia, MachineError
from musetalk_runtime.prepare.source.colour import to_rgb, to_yuv420p
from musetalk_runtime.prepare.source.resample import resample
from musetalk_runtime.prepare.source.video import VideoSource

IDENTITY = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
QUARTER_TURN = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # clockwise


def source_of(path: Path, max_seconds: float = 60) -> VideoSource:
    return VideoSource(path, max_seconds)


def levels(source: VideoSource) -> list[int]:
    return [round(float(rgb.mean()) / 10) for rgb in source.frames()]


@pytest.mark.parametrize(
    ("rate", "kept", "step"),
    [
        (10, "10", 1),
        (24, "24", 1),
        (25, "25", 1),
        (30, "30", 1),
        ("30000/1001", "30000/1001", 1),
        (48, "24", 2),
        (50, "25", 2),
        (60, "30", 2),
        ("60000/1001", "30000/1001", 2),
        (120, "30", 4),
    ],
)
def test_a_steady_rate_is_kept_or_divided(rate: int | str, kept: str, step: int) -> None:
    times = [round(k / Fraction(rate), 3) for k in range(40)]  # rounded to 1 ms, as in Matroska
    assert resample([float(t) for t in times], Fraction(rate)) == (Fraction(kept), list(range(0, 40, step)))


def test_frames_larger_than_wanted_are_scaled_down(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [solid((40 * k, 90, 200), 640, 360) for k in range(5)])
    cv2.imwrite(str(tmp_path / "p.png"), solid((10, 90, 200), 361, 641))
    video = VideoSource(tmp_path / "v.mp4", 60, max_side=320)
    assert (video.width, video.height, video.scale) == (320, 180, 0.5)
    frames = list(video.frames())
    assert [frame.shape for frame in frames] == [(180, 320, 3)] * 5
    assert [round(float(frame[..., 0].mean()) / 40) for frame in frames] == [0, 1, 2, 3, 4]
    photo = VideoSource(tmp_path / "p.png", 60, max_side=320)
    assert (photo.width, photo.height, len(photo)) == (180, 320, 1)
    assert next(photo.frames()).shape == (320, 180, 3)
    assert VideoSource(tmp_path / "p.png", 60, max_side=641).scale == 1


def test_an_unsteady_rate_shows_the_frame_of_each_instant() -> None:
    rate, indexes = resample([0.0, 0.04, 0.08, 0.28, 0.32, 0.36], Fraction(25))
    assert rate == 24
    shown = [round(k / 24, 2) for k in range(len(indexes))]
    assert all(low <= high <= low + 1 for low, high in pairwise(indexes))
    assert indexes[shown.index(0.25)] == 2
    assert indexes[-1] == 5


def test_a_wrong_stated_rate_is_corrected() -> None:
    assert resample([k / 25 for k in range(50)], Fraction(50))[0] == 25


def test_a_video_of_variable_rate(tmp_path: Path) -> None:
    times = [0, 40, 80, 400, 440, 480, 520, 560]
    path = write_video(tmp_path / "v.mkv", [solid((k * 30 + 10,) * 3) for k in range(8)], times)
    source = source_of(path)
    assert source.fps == 24
    seen = levels(source)
    assert len(seen) == len(source) == 15
    assert sum(level == 7 for level in seen) > 6  # the frame that lasts 320 ms
    assert seen[-1] == 22
    assert list(seen) == levels(source)  # again, the same


def test_fifty_frames_a_second_become_twenty_five(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [solid((k * 20 + 10,) * 3) for k in range(12)], rate=Fraction(50))
    source = source_of(path)
    assert (source.fps, levels(source)) == (25, [1, 5, 9, 13, 17, 21])


def test_rotation_is_applied(tmp_path: Path) -> None:
    rgb = solid((20, 20, 20), 96, 64)
    rgb[:, :32] = (220, 30, 30)
    path = write_video(tmp_path / "v.mp4", [rgb] * 3)
    data = path.read_bytes()
    matrix = data.index(IDENTITY, data.index(b"tkhd"))
    path.write_bytes(data[:matrix] + QUARTER_TURN + data[matrix + len(IDENTITY) :])
    source = source_of(path)
    assert (source.width, source.height) == (64, 96)
    frame = next(iter(source.frames()))
    assert frame[10, 32, 0] > 180  # the left edge is on top
    assert frame[80, 32, 0] < 60


def test_odd_sizes_lose_a_line(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [solid((90, 90, 90), 65, 49)] * 2, pix_fmt="yuv444p")
    source = source_of(path)
    assert (source.width, source.height) == (64, 48)
    assert [rgb.shape for rgb in source.frames()] == [(48, 64, 3)] * 2


def test_pixels_become_square(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(solid((9, 9, 9), 64, 64), format="rgb24")))
        container.mux(stream.encode(None))
    assert (source_of(path).width, source_of(path).height) == (128, 64)


COLOURS = [(255, 0, 0), (0, 200, 0), (20, 40, 230), (200, 120, 90), (255, 255, 255), (0, 0, 0), (128, 128, 128)]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("matrix", "tag"), [("ITU601", 6), ("ITU709", 1), ("ITU601", 2)])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_come_through(colour: tuple[int, int, int], matrix: str, tag: int, full_range: bool) -> None:
    """The same colour, from any matrix and range a frame is tagged with; untagged and small is BT.601."""
    frame = av.VideoFrame.from_ndarray(solid(colour), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=matrix,
        src_color_range="JPEG",
        dst_color_range="JPEG" if full_range else "MPEG",
    )
    frame.colorspace, frame.color_range = tag, 2 if full_range else 1
    rgb = to_rgb(frame, 64, 48)
    assert np.abs(rgb.astype(int) - colour).max() <= 3
    stored = to_yuv420p(rgb)
    r, g, b = (value / 255 for value in colour)
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    expected = [16 + 219 * luma, 128 + 224 * (b - luma) / 1.8556, 128 + 224 * (r - luma) / 1.5748]
    planes = np.split(stored.to_ndarray().ravel(), [64 * 48, 64 * 48 * 5 // 4])
    assert [plane.mean() for plane in planes] == pytest.approx(expected, abs=3)


def test_a_long_video_is_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [solid((50, 50, 50))] * 40)
    source = source_of(path, 1.0)
    assert (source.cut, len(source), len(list(source.frames()))) == (True, 25, 25)
    assert not source_of(path, 1.6).cut


@pytest.mark.parametrize("bits", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_photos_of_every_depth(bits: type[np.uint8] | type[np.uint16], channels: int, tmp_path: Path) -> None:
    value = 0.6 * np.iinfo(bits).max
    picture = np.full((49, 65, channels), value, bits)
    picture[..., 3:] = np.iinfo(bits).max
    picture[:, 40:, 3:] = 0
    path = tmp_path / "photo.png"
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    source = source_of(path)
    assert (source.fps, len(source), source.width, source.height) == (25, 1, 64, 48)
    frame = next(iter(source.frames()))
    assert np.abs(frame[:, :40].astype(int) - 153).max() <= 1
    assert np.abs(frame[:, 40:].astype(int) - (0 if channels == 4 else 153)).max() <= 1


def test_frames_of_uneven_length_are_shown_from_when_they_appear() -> None:
    rate, shown = resample([0.0, 0.04, 2.04], None)
    assert (rate, shown[:2], shown.index(2)) == (24, [0, 1], 49)


def jpeg_of(rgb: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()


def segment(content: bytes, marker: int = 0xE1) -> bytes:
    """Of a JPEG."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def exif_of(orientation: int, kind: int = 3) -> bytes:
    """Big endian, the value of TIFF's type `kind`: 3 or 4."""
    value = struct.pack(">HH", orientation, 0) if kind == 3 else struct.pack(">I", orientation)
    return b"MM\0*\0\0\0\x08\0\x01\x01\x12" + struct.pack(">HI", kind, 1) + value + bytes(4)


@pytest.mark.parametrize(
    ("before", "exif", "after", "orientation"),
    [
        (b"", b"Exif\0\0" + exif_of(6, kind=4), b"", 6),
        (segment(b"see Exif\0\0, eXIf and EXIF", 0xFE), b"Exif\0\0" + exif_of(6), b"", 6),
        (segment(b"http://ns.adobe.com/xap/1.0/\0<EXIF eXIf/>"), b"Exif\0\0" + exif_of(5), b"", 5),
        (segment(bytes(60_000), 0xE2) * 2, b"Exif\0\0" + exif_of(8), b"", 8),
        (b"", b"other", b"\0\0\0\x18ftypmp42Exif\0\0" + exif_of(6), 1),
    ],
    ids=["of 32 bits", "after a comment", "after XMP", "after profiles", "behind the photo"],
)
def test_exif_counts_where_a_jpeg_has_it(
    tmp_path: Path, before: bytes, exif: bytes, after: bytes, orientation: int
) -> None:
    jpeg = jpeg_of(coloured())
    (tmp_path / "p.jpg").write_bytes(jpeg[:2] + before + segment(exif) + jpeg[2:] + after)
    assert corners(tmp_path / "p.jpg") == ORIENTED[orientation]


@pytest.mark.parametrize(("name", "orientation"), [(b"eXIf", 6), (b"tEXt", 1)])
def test_exif_counts_where_a_png_has_it(tmp_path: Path, name: bytes, orientation: int) -> None:
    png = cv2.imencode(".png", coloured()[..., ::-1])[1].tobytes()
    content = exif_of(6) if name == b"eXIf" else b"note\0Exif\0\0" + exif_of(6)
    check = struct.pack(">I", zlib.crc32(name + content))
    chunk = struct.pack(">I", len(content)) + name + content + check
    (tmp_path / "p.png").write_bytes(png[:33] + chunk + png[33:-12])  # without its end, too
    assert corners(tmp_path / "p.png") == ORIENTED[orientation]


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    picture = solid((10, 10, 10), 96, 64)
    picture[:, :48] = (0, 0, 255)  # BGR: red
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    frame = next(iter(source_of(path).frames()))
    assert frame.shape == (96, 64, 3)
    assert frame[10, 32, 0] > 200
    assert frame[80, 32, 0] < 50


def png_of(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * height), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [(5000, 4000, "scale it down"), (8, 8, "at least 32x32"), (40, 17_000, "at most 16384")],
)
def test_photos_too_large_or_too_small(width: int, height: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png_of(width, height))
    with pytest.raises(InvalidMedia, match=message):
        source_of(tmp_path / "photo.png")


def test_a_changing_frame_size_is_refused(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{n}.h264", [solid((50, 50, 50), n, 64)] * 5) for n in (64, 96)]
    joined = tmp_path / "joined.h264"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InvalidMedia, match="size changes"):
        list(source_of(joined).frames())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_truncated_video(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    frames = [noise.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(60)]
    path = write_video(tmp_path / f"v.{suffix}", frames)
    source_of(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(InvalidMedia):
        source_of(path)


def test_a_tag_in_another_encoding_is_no_damage(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [solid((50, 50, 50))] * 5)
    data = path.read_bytes()
    assert data.count(b"VideoHandler") == 1
    path.write_bytes(data.replace(b"VideoHandler", b"Vid\xe9oHandler"))
    assert len(list(source_of(path).frames())) == 5


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no such file"):
        source_of(tmp_path / "none.mp4")


@pytest.mark.parametrize("name", ["text.txt", "text.mp4", "text.jpg", "list.m3u8"])
def test_text_is_no_video(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("#EXTM3U\n#EXTINF:10,\nother.mp4\n" if name == "list.m3u8" else "hello\n" * 99)
    with pytest.raises(InvalidMedia):
        source_of(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_photo(suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    (tmp_path / f"p{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidMedia):
        source_of(tmp_path / f"p{suffix}")
    assert capfd.readouterr().err == ""


def corners(path: Path) -> list[str]:
    """The colours of the first frame's corners, from the top left one clockwise."""
    rgb = next(iter(source_of(path).frames())).astype(int)
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 1): "white"}
    return [names[tuple(rgb[y, x] // 128)] for y, x in ((8, 8), (8, -9), (-9, -9), (-9, 8))]


def coloured() -> np.ndarray:
    """96x64: a corner each in red, green, blue and white."""
    rgb = np.zeros((64, 96, 3), np.uint8)
    rgb[:32, :48], rgb[:32, 48:], rgb[32:, 48:], rgb[32:, :48] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255,) * 3
    return rgb


ORIENTED = {  # by EXIF orientation, what a viewer shows
    1: ["red", "green", "blue", "white"],
    2: ["green", "red", "white", "blue"],
    3: ["blue", "white", "red", "green"],
    4: ["white", "blue", "green", "red"],
    5: ["red", "white", "blue", "green"],
    6: ["white", "red", "green", "blue"],
    7: ["blue", "green", "red", "white"],
    8: ["green", "blue", "white", "red"],
}
MATRICES = {  # the first, second, fourth and fifth value of the display matrix that shows the same
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    data = write_video(path, [coloured()] * 2).read_bytes()
    at = data.index(IDENTITY, data.index(b"tkhd"))
    matrix = struct.pack(">9i", *(round(x * 65536) for x in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    path.write_bytes(data[:at] + matrix + data[at + len(IDENTITY) :])
    return path


@pytest.mark.parametrize("orientation", ORIENTED)
def test_the_whole_display_matrix_is_used(tmp_path: Path, orientation: int) -> None:
    assert corners(with_matrix(tmp_path / "v.mp4", *MATRICES[orientation])) == ORIENTED[orientation]


@pytest.mark.parametrize(
    ("matrix", "orientation"),
    [
        ((0, 0, 0, 0), 1),
        ((1, 1, 1, 1), 1),
        ((0, 1, 0, 1), 1),
        ((0.9999, 0.01, -0.01, 0.9999), 1),
        ((0.02, 0.99, -0.99, 0.02), 6),
        ((2, 0, 0, 2), 1),
    ],
)
def test_an_inexact_matrix_is_the_nearest_and_a_degenerate_one_none(
    tmp_path: Path, matrix: tuple[float, float, float, float], orientation: int
) -> None:
    assert corners(with_matrix(tmp_path / "v.mp4", *matrix)) == ORIENTED[orientation]


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_every_photo_is_turned_as_exif_says(tmp_path: Path, kind: str, orientation: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra heif")
    pytest.importorskip("pillow_heif", reason="needs the extra heif").register_heif_opener()
    exif = image.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"p.{kind.lower()}"
    image.fromarray(coloured()).save(path, format=kind, exif=exif, quality=95)
    assert corners(path) == ORIENTED[orientation]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_what_is_transparent_is_turned_too(tmp_path: Path, orientation: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra heif")
    exif = image.Exif()
    exif[0x112] = orientation
    rgba = np.dstack([np.full((64, 96, 3), 200, np.uint8), np.full((64, 96), 255, np.uint8)])
    rgba[:32, :48, 3] = 0  # the red corner of `coloured`
    image.fromarray(rgba).save(tmp_path / "p.png", exif=exif)
    rgb = next(iter(source_of(tmp_path / "p.png").frames()))
    seen = [int(rgb[y, x, 0]) for y, x in ((8, 8), (8, -9), (-9, -9), (-9, 8))]
    assert seen == [0 if name == "red" else 200 for name in ORIENTED[orientation]]


def test_a_tiled_heic_is_whole(tmp_path: Path) -> None:
    """As an iPhone writes it: tiles of 512x512, and turned."""
    image = pytest.importorskip("PIL.Image", reason="needs the extra heif")
    pytest.importorskip("pillow_heif", reason="needs the extra heif").register_heif_opener()
    exif = image.Exif()
    exif[0x112] = 6
    large = image.fromarray(coloured()).resize((960, 640))
    large.save(tmp_path / "p.heic", exif=exif, quality=90, tile_size=512)
    source = source_of(tmp_path / "p.heic")
    assert (source.width, source.height) == (640, 960)
    assert corners(tmp_path / "p.heic") == ORIENTED[6]


def test_a_heic_without_its_library_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "p.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(MachineError, match=r"a HEIC photo: pip install 'musetalk-edge\[heif\]', or save it as JPEG"):
        source_of(tmp_path / "p.heic")


@pytest.mark.parametrize("kind", ["made up", "Google", "Samsung", "gain map", "two pictures"])
def test_what_follows_a_photo_is_not_looked_at(tmp_path: Path, kind: str) -> None:
    """Here without a suffix, as of an upload. A video behind it may hold what looks like the beginning of a picture."""
    jpeg = jpeg_of(coloured())
    video = write_video(tmp_path / "v.mp4", [solid((9, 9, 9))] * 5).read_bytes()
    behind = {
        "made up": b"\0\0\0\x18ftypmp42" + bytes(100) + b"\x12\xff\xda\x34" + bytes(100),
        "Google": video,
        "Samsung": b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + video + b"SEFHk\0\0\0\1\0\0\0SEFT",
        "gain map": jpeg_of(solid((90, 90, 90), 48, 32)),
        "two pictures": jpeg,
    }
    (tmp_path / "upload").write_bytes(jpeg[:2] + segment(b"MPF\0II*\0" + bytes(60), 0xE2) + jpeg[2:] + behind[kind])
    assert corners(tmp_path / "upload") == ORIENTED[1]


def test_a_jpeg_without_an_end_marker_is_read_if_it_is_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "p.jpg").write_bytes(jpeg.removesuffix(b"\xff\xd9"))
    assert source_of(tmp_path / "p.jpg").width == 64
    (tmp_path / "q.jpg").write_bytes(jpeg[:-300])
    with pytest.raises(InvalidMedia, match="truncated"):
        source_of(tmp_path / "q.jpg")


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 18, reason="PyAV 17 writes no dispositions")
def test_cover_art_is_no_video_where_there_is_one(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(solid((9, 9, 9), 64, 64), format="rgb24")))
        for _ in range(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(solid((99, 9, 9), 96, 64), format="rgb24")))
        container.mux([*cover.encode(None), *video.encode(None)])
    source = source_of(tmp_path / "v.mp4")
    assert (len(source), source.width) == (5, 96)


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 18, reason="PyAV 17 writes no dispositions")
def test_the_default_video_is_taken_and_it_is_said(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        tracks = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for track, width in zip(tracks, (64, 96), strict=True):
            track.width, track.height, track.pix_fmt = width, 64, "yuv420p"
            track.disposition = av.stream.Disposition.default if width == 96 else av.stream.Disposition(0)
        for track in tracks:
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(solid((99, 9, 9), track.width, 64), format="rgb24")
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    source = source_of(tmp_path / "v.mkv")
    assert source.width == 96
    assert [warning.endswith("of its 2 video streams number 1 is taken") for warning in source.warnings] == [True]


def test_an_animated_webp_is_refused_as_what_it_is(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra heif")
    frames = [image.fromarray(np.full((64, 96, 3), level, np.uint8)) for level in (9, 99)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidMedia, match="an animated WebP"):
        source_of(tmp_path / "a.webp")


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv"])
def test_of_joined_files_the_first_is_shown_and_it_is_said(tmp_path: Path, suffix: str) -> None:
    parts = [write_video(tmp_path / f"{width}.{suffix}", [solid((9, 9, 9), width, 64)] * 5) for width in (64, 96)]
    (tmp_path / "v").write_bytes(b"".join(part.read_bytes() for part in parts))
    source = source_of(tmp_path / "v")
    assert (len(source), len(list(source.frames()))) == (5, 5)
    told = f"what follows its byte {parts[0].stat().st_size} is another file, which is not shown"
    assert source.warnings == [f"{tmp_path / 'v'}: {told}"]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_video_of_photos_with_exif_is_read(tmp_path: Path, orientation: int) -> None:
    """Cameras write them; what PyAV calls their EXIF differs, and it may have no name for it."""
    jpeg = jpeg_of(coloured())
    with av.open(str(tmp_path / "v.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for k in range(3):
            packet = av.Packet(jpeg[:2] + segment(b"Exif\0\0" + exif_of(orientation)) + jpeg[2:])
            packet.pts = packet.dts = k
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            container.mux(packet)
    assert corners(tmp_path / "v.avi") in (ORIENTED[orientation], ORIENTED[1])  # older FFmpeg does not turn it


def test_an_animated_avif_is_refused_as_what_it_is(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra heif")
    pytest.importorskip("pillow_heif", reason="needs the extra heif")
    frames = [image.fromarray(np.full((64, 96, 3), level, np.uint8)) for level in (9, 99)]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(InvalidMedia, match="an animated AVIF"):
        source_of(tmp_path / "a.avif")


def test_a_grey_heic_of_more_than_8_bits_is_no_white(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra heif")
    pytest.importorskip("pillow_heif", reason="needs the extra heif").register_heif_opener()
    image.fromarray(np.full((64, 96), 100 * 257, np.uint16)).save(tmp_path / "p.heic")
    assert abs(float(next(iter(source_of(tmp_path / "p.heic").frames())).mean()) - 100) < 2


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_want_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """FFmpeg says the first where a thread cannot be started."""
    write_video(tmp_path / "v.mp4", [solid((9, 9, 9))])

    def fail(*_: object, **__: object) -> None:
        raise av.error.FFmpegError(number, os.strerror(number))

    monkeypatch.setattr("musetalk_runtime.prepare.source.video_file.open_media", fail)
    with pytest.raises(MemoryError):
        source_of(tmp_path / "v.mp4")


def test_joined_streams_follow_one_another(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", [solid((k * 10 + 10,) * 3) for k in range(20)])
    path.write_bytes(path.read_bytes() * 2)
    source = source_of(path)
    assert (source.fps, len(source)) == (25, 40)
    assert levels(source) == [*range(1, 21)] * 2
    assert [warning.endswith("its timestamps begin again after 0.8 s") for warning in source.warnings] == [True]
