"""Drawn people: their faces, their speech, and the truth that is written with them."""

import importlib.util
import json
import resource
from ctypes.util import find_library
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.modules import loaded_modules
from musetalk_drawn.clips import draw_clips, write_clip
from musetalk_drawn.demo import write_avatar_video
from musetalk_drawn.figure.artist import Artist
from musetalk_drawn.figure.identity import DEMO, HAIR_STYLES, Identity
from musetalk_drawn.figure.motion import pose_track
from musetalk_drawn.figure.mouth import MIDDLE
from musetalk_drawn.figure.mouth_state import MouthState
from musetalk_drawn.figure.pose import Pose
from musetalk_drawn.script import FPS, Script
from musetalk_drawn.spec import HELD_OUT_SPEAKERS, SPEAKERS, ClipSpec, Speaker
from musetalk_drawn.speech import espeak
from musetalk_drawn.speech.texts import HELD_OUT, TRAIN
from musetalk_drawn.speech.timeline import mouth_track, segments
from musetalk_runtime.core.errors import InvalidArgument, MachineError, OutputError
from musetalk_runtime.core.model import SAMPLE_RATE

spoken = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None and find_library("espeak-ng") is None,
    reason="eSpeak NG is not installed: pip install espeakng-loader",
)


def short_spec(size: int = 128, **changes: object) -> ClipSpec:
    values = {"noise": 20.0, "reverberation": 0.3, "motion": 1.0, "size": size, **changes}
    return ClipSpec(3, Speaker.of(0), ("Bob, may I move the old map?", "Five pears."), (0.5, 0.8, 0.5), **values)


@pytest.fixture(scope="module")
def script() -> Script:
    return Script.of(short_spec())


def gap_in_pixels(picture: np.ndarray, pose: Pose) -> float:
    """The rows from the first to the last that is no lip, in the middle of the mouth of the demo's face."""
    x, y = pose.place([(0.0, MIDDLE)], 60)[0].round().astype(int)
    middle = picture[y - 14 : y + 34, x - 2 : x + 3].astype(float).mean(axis=1)
    dark = middle.max(axis=1) < 125
    white = middle.min(axis=1) > 0.72 * middle.max(axis=1)
    white[: max(1, int(np.argmax(np.ptp(middle, axis=1) > 70)))] = False  # skin above the lips
    rows = np.flatnonzero(dark | white)
    rows = rows[rows < 42]
    return float(np.ptp(rows)) if len(rows) else 0.0


@spoken
def test_script_is_the_same_for_the_same_seed():
    one, other = (Script.of(ClipSpec.from_seed(11, size=128)) for _ in range(2))
    Script.of(ClipSpec.from_seed(12, size=128))
    again = Script.of(ClipSpec.from_seed(11, size=128))
    assert one.pcm.tobytes() == other.pcm.tobytes() == again.pcm.tobytes()
    assert (one.mouths, one.poses, one.said) == (again.mouths, again.poses, again.said)
    pictures = [Artist(DEMO, 256, 1).draw(one.mouths[40], one.poses[40]).tobytes() for _ in range(2)]
    assert pictures[0] == pictures[1]


@spoken
def test_sound_is_as_long_as_the_frames(script: Script):
    assert len(script.pcm) == len(script.mouths) * SAMPLE_RATE // FPS
    assert len(script.poses) == len(script.mouths)
    assert np.abs(script.pcm).max() > 10_000


@spoken
def test_mouth_is_closed_in_silence_and_for_bilabials(script: Script):
    opening = np.array([mouth.opening for mouth in script.mouths])
    times = np.arange(len(opening)) / FPS
    speech = [s for s in script.said if s.viseme != "rest"]
    away = [min(max(s.start - t, t - s.end) for s in speech) for t in times]
    assert (opening[np.array(away) > 0.17] == 0).all()
    assert (np.array(away) > 0.17).sum() > 10
    bilabials = [s for s in speech if s.viseme == "M"]
    assert len(bilabials) >= 6
    for s in bilabials:
        assert opening[(times > s.start - 0.03) & (times < s.end + 0.03)].min() == 0, s


@spoken
def test_vowels_open_the_mouth(script: Script):
    opening = np.array([mouth.opening for mouth in script.mouths])
    for s in script.said:
        if s.viseme in ("A", "E", "O") and s.end - s.start > 0.1:
            assert opening[round(s.start * FPS) : round(s.end * FPS) + 1].max() > 0.3, s


@spoken
def test_mouth_follows_the_loudness(script: Script):
    power = np.sqrt(np.mean(script.pcm.reshape(-1, SAMPLE_RATE // FPS).astype(float) ** 2, axis=1))
    opening = np.array([mouth.opening for mouth in script.mouths])
    assert np.corrcoef(power, opening)[0, 1] > 0.4


def test_mouth_moves_before_a_sound_and_rounds_early():
    said = segments([(0.5, "s"), (0.6, "'u:"), (0.8, "_")], 1.0)
    track = mouth_track(said, np.array([0.3, 0.48, 0.56, 0.7, 1.2]))
    assert track[0] == track[4] == MouthState()
    assert track[1].opening > 0
    assert track[2].rounding > 0.15
    assert track[3].rounding > 0.8


def test_pixels_show_the_opening():
    rng = np.random.default_rng(0)
    artist = Artist(DEMO)
    truth, seen = [], []
    for pose in pose_track(np.arange(60) / 5, 4, 0.8):
        opening = float(rng.choice([0.0, rng.uniform(0.05, 1)]))
        state = MouthState(opening, opening * 0.9, float(rng.uniform(-0.3, 0.8)), float(rng.uniform(0, 0.5)))
        truth.append(opening)
        seen.append(gap_in_pixels(artist.draw(state, pose), pose))
    assert np.corrcoef(truth, seen)[0, 1] >= 0.9


def test_every_shape_of_mouth_looks_different():
    from musetalk_drawn.speech.visemes import VISEMES

    artist = Artist(DEMO, 256)
    x0, _, x1, y1 = artist.box(Pose())
    mouths = {
        name: artist.draw(viseme.aim, Pose())[y1 - 60 : y1 - 10, x0 + 20 : x1 - 20].astype(float)
        for name, viseme in VISEMES.items()
        if name not in ("K", "H", "SCHWA", "UH", "J", "ER")
    }
    for one, picture in mouths.items():
        for other, another in mouths.items():
            assert one == other or np.abs(picture - another).mean() > 0.5, (one, other)


def test_only_the_mouth_and_chin_move_with_the_mouth():
    artist = Artist(DEMO, 256)
    shut, wide = (artist.draw(MouthState(value, value), Pose()).astype(int) for value in (0.0, 1.0))
    moved = np.abs(shut - wide).max(axis=2) > 8
    x0, y0, x1, y1 = artist.box(Pose())
    inside = moved[(y0 + y1) // 2 : y1, x0:x1].sum()
    assert inside > 400
    assert moved.sum() - inside < 0.1 * inside


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_every_hair_style_is_drawn_in_every_pose(style: str):
    who = Identity(hair_style=style, glasses=True, stubble=1.0, freckles=1.0)
    for pose in (Pose(0.3, 0.2, 0.2, 60, 40, 1.0), Pose(-0.3, -0.2, -0.2, -200, -200, light=0.8)):
        picture = Artist(who, 128).draw(MouthState(1, 1), pose)
        assert picture.shape == (128, 128, 3)
        assert picture.std() > 20


def test_people_differ_and_a_seed_gives_the_same():
    people = [Identity.from_seed(seed) for seed in range(30)]
    assert len(set(people)) == 30
    assert people[7] == Identity.from_seed(7)
    trained = [Speaker.of(k) for k in range(SPEAKERS)]
    others = [Speaker.of(k, held_out=True) for k in range(HELD_OUT_SPEAKERS)]
    assert not {speaker.who for speaker in trained} & {speaker.who for speaker in others}
    assert not {speaker.voice.name for speaker in trained} & {speaker.voice.name for speaker in others}


def test_texts_are_many_and_held_out_ones_apart():
    assert len(set(TRAIN)) == len(TRAIN) >= 120
    assert len(set(HELD_OUT)) == len(HELD_OUT) >= 20
    assert not set(TRAIN) & set(HELD_OUT)
    assert set(ClipSpec.from_seed(5, held_out=True).sentences) <= set(HELD_OUT)
    assert ClipSpec.from_seed(5, held_out=True).speaker.id.startswith("held-out")


@spoken
def test_clip_is_written_with_its_truth(tmp_path: Path, script: Script):
    from musetalk_distill.prepare.annotations import annotation_file, read_annotations

    spec = short_spec()
    video = write_clip(tmp_path / "new", spec)
    notes = json.loads(video.with_suffix(".json").read_text())
    frames = len(script.mouths)
    with av.open(str(video)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(video)) as container:
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert (sound == script.pcm).all()
    assert len(pictures) == frames == len(notes["opening"]) == len(notes["face_box"]) == len(notes["width"])
    drawn = Artist(spec.speaker.who, spec.size, spec.seed).draw(script.mouths[30], script.poses[30])
    assert np.abs(pictures[30].astype(int) - drawn).mean() < 4
    assert notes["opening"] == pytest.approx([mouth.opening for mouth in script.mouths], abs=1e-4)
    assert notes["text"] == "Bob, may I move the old map? Five pears."
    assert sorted(path.suffix for path in video.parent.iterdir()) == [".json", ".mp4"]
    read = read_annotations(annotation_file(video))
    assert (read.speaker, read.face_box[30]) == ("drawn-00", Artist(DEMO, spec.size).box(script.poses[30]))
    assert len(read.opening) == frames


@spoken
def test_drawing_goes_on_where_it_was_interrupted(tmp_path: Path):
    seen: list[tuple[int, int, str]] = []  # seeds of short clips
    (first,) = draw_clips(tmp_path, 1, 1455, size=128)
    made = first.stat().st_mtime_ns
    with pytest.raises(KeyboardInterrupt):
        draw_clips(tmp_path, 3, 1455, size=128, progress=lambda *at: _stop_after(at, seen))
    assert first.stat().st_mtime_ns == made
    assert seen == [(1, 3, "drawn-001455"), (2, 3, "drawn-001456")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"drawn-00145{k}.{kind}" for k in (5, 6) for kind in ("json", "mp4")
    ]


def _stop_after(at: tuple[int, int, str], seen: list[tuple[int, int, str]]) -> None:
    seen.append(at)
    if at[0] == 2:
        raise KeyboardInterrupt


@spoken
def test_full_disk_leaves_nothing(tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write_clip(tmp_path, replace(short_spec(), sentences=("Five pears.",), pauses=(0.3, 0.3)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@spoken
def test_output_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_clip(tmp_path / "file", short_spec())


def test_without_espeak_one_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def missing(_name: str) -> None:
        raise ImportError

    monkeypatch.setattr(espeak, "import_module", missing)
    monkeypatch.setattr(espeak.ctypes.util, "find_library", lambda _name: None)
    with pytest.raises(MachineError, match="pip install espeakng-loader"):
        draw_clips(tmp_path, 1, 0)
    assert not list(tmp_path.iterdir())


def test_arguments_out_of_range_are_refused(tmp_path: Path):
    for change in ({"count": 0}, {"seed": -1}, {"size": 4096}, {"size": 129}):
        with pytest.raises(InvalidArgument, match=r"out of range|expected"):
            draw_clips(tmp_path, **{"count": 1, "seed": 0, **change})
    with pytest.raises(InvalidArgument, match="out of range"):
        write_avatar_video(tmp_path / "a.mp4", 0, 0)


def test_avatar_video_keeps_its_mouth_closed(tmp_path: Path):
    boxes = write_avatar_video(tmp_path / "avatar.mp4", 2.0, 0, size=256)
    with av.open(str(tmp_path / "avatar.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert not container.streams.audio
    assert len(pictures) == len(boxes) == 50
    assert np.abs(pictures[0].astype(int) - pictures[-1]).mean() > 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["avatar.mp4"]


def test_detector_finds_drawn_faces(data: Path):
    from musetalk_runtime.avatar.box import face_box
    from musetalk_runtime.prepare.face import FaceDetector

    detector = FaceDetector(data / "face_detection_yunet_2026may.onnx")
    for seed in range(8):
        artist, pose = Artist(Identity.from_seed(seed)), Pose(yaw=0.03 * (seed - 4), blink=seed % 2)
        (face,) = detector.detect(artist.draw(MouthState(seed / 8, seed / 8), pose))
        found = face_box(face)
        assert found is not None
        assert np.abs(np.subtract(found, artist.box(pose))).max() < 24


def test_command_draws_and_help_needs_no_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from musetalk_distill.cli import main

    assert main(["draw", "-o", str(tmp_path / "out"), "--clips", "0"]) == 2
    assert "out of range" in capsys.readouterr().err
    assert loaded_modules("import musetalk_drawn.clips", ["torch", "diffusers", "transformers"]) == []
