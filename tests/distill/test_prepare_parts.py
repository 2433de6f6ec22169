"""What preparing training videos is made of: who speaks, what is told, which frames, what is heard."""

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.clips import SPEC, write_talk
from musetalk_distill.prepare.annotations import Annotations, annotation_file, read_annotations
from musetalk_distill.prepare.audio_states import read_audio_states
from musetalk_distill.prepare.cuts import cut_clips
from musetalk_distill.prepare.options import PrepareOptions
from musetalk_distill.prepare.prepared import Prepared, PreparedClip
from musetalk_distill.prepare.progress import Progress
from musetalk_distill.prepare.source_video import find_source_videos, speaker_of
from musetalk_distill.prepare.split import chosen_for_val, split_clips
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidMedia
from musetalk_runtime.prepare.source.resample import nearest_frames

HERE, THERE = (0, 0, 100, 100), (90, 0, 190, 100)


@pytest.mark.parametrize(
    ("name", "speaker"),
    [
        ("WDA_BarackObama_000.mp4", "WDA_BarackObama"),
        ("RD_Radio11_001.mp4", "RD_Radio11"),
        ("ann 2_03-1.mp4", "ann"),
        ("ann.mp4", "ann"),
        ("2.mp4", "2"),
        ("id00012/21Uxsk56VDQ/00001.mp4", "id00012"),
    ],
)
def test_who_speaks(name: str, speaker: str) -> None:
    assert speaker_of(name) == speaker


def test_videos_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/c/d.MOV", "a/e.txt", ".hidden/f.mp4", "a/.g.mp4", "b.json", "a/c/d.MOV.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, left_out = find_source_videos(tmp_path)
    assert left_out == []
    assert [video.name for video in found] == ["a/c/d.MOV", "b.mp4"]
    assert [video.annotation_file and video.annotation_file.name for video in found] == ["d.MOV.json", "b.json"]
    assert annotation_file(tmp_path / "a.mp4") is None


def test_what_is_named_like_a_video_and_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.mp4" / "good.mp4").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "nothing.mp4")
    (tmp_path / "more").symlink_to(tmp_path)
    (tmp_path / "two\nlines.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "noted.json")
    (tmp_path / "noted.mp4").touch()
    (tmp_path / "noticed.mp4").touch()
    (tmp_path / "noticed.mp4.json").symlink_to(tmp_path / "nothing.json")
    found, left_out = find_source_videos(tmp_path)
    assert [video.name for video in found] == ["folder.mp4/good.mp4"]
    assert {other.name: other.reason for other in left_out} == {
        "folder.mp4": "a folder",
        "link.mp4": "a link to nothing",
        "more": "a link to a folder, which is not followed",
        "noted.mp4": "noted.json beside it is a FIFO",
        "noticed.mp4": "noticed.mp4.json beside it is a link to nothing",
        "pipe.mp4": "a FIFO",
        "two\\nlines.mp4": "its name has characters that cannot be printed: rename it",
    }
    (tmp_path / "folder.mp4" / "good.mp4").unlink()
    with pytest.raises(
        InvalidMedia, match=r"no videos in it .*; folder.mp4 is left out: a folder; link.mp4 is left out"
    ):
        find_source_videos(tmp_path)


def prepared(video: str, speaker: str, held_out: bool | None = None) -> Prepared:
    clips = [PreparedClip(f"{video}-{k}", 25, 25 * k, f"{video}-{k}.safetensors", "") for k in range(2)]
    return Prepared(video, speaker, held_out, 50, clips)


def splits(*usable: Prepared, val_share: float = 0.1) -> tuple[dict[str, str], list[str]]:
    entries, warnings = split_clips(list(usable), val_share, Fraction(25))
    return {entry.id: entry.split for entry, _ in entries}, warnings


def test_people_whom_a_json_file_holds_out_are_for_validation_and_no_others() -> None:
    names = [f"{letter}.mp4" for letter in "abcdefgh"]
    usable = [prepared(name, name, False) for name in names]
    split, warnings = splits(*usable, prepared("x", "X", True), prepared("y", "Y", True), prepared("x2", "X"))
    assert {clip for clip, where in split.items() if where == "val"} == {"x-0", "x-1", "x2-0", "x2-1", "y-0", "y-1"}
    assert warnings == []
    alone, warnings = splits(prepared("x", "X", True), prepared("y", "Y", True))
    assert set(alone.values()) == {"val"}
    assert "every speaker is held out" in warnings[0]
    by_hash, warnings = splits(*usable, val_share=0.3)
    assert set(by_hash.values()) == {"train", "val"}
    assert warnings == []


def test_one_person_is_not_on_both_sides() -> None:
    split, warnings = splits(prepared("a", "Ann"), prepared("b", "Ann"))
    assert set(split.values()) == {"train"}
    assert "only one speaker (Ann): all clips are for training" in warnings[0]
    with pytest.raises(InvalidMedia, match=r"Ann would be trained on and kept .* true of b and false of a"):
        splits(prepared("a", "Ann", False), prepared("b", "Ann", True), prepared("c", "Bob"))


def test_no_videos(tmp_path: Path) -> None:
    with pytest.raises(InvalidMedia, match="no videos in it"):
        find_source_videos(tmp_path)
    with pytest.raises(InputNotFound, match="no such folder"):
        find_source_videos(tmp_path / "none")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InvalidArgument, match="expected a folder"):
        find_source_videos(tmp_path / "a.mp4")


def test_what_is_told_of_a_video(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"face_box": [[0, 1, 20.4, 30], [1, 1, 21, 31]], "opening": [0, 1.5], "fps": 25}))
    notes = read_annotations(file)
    assert notes.box(0) == (0, 1, 20, 30)
    assert notes.opening is not None
    assert notes.opening.tolist() == [0, 1.5]
    assert notes.speaker is None
    notes.check_length(file, 1)
    with pytest.raises(InvalidMedia, match="face_box tells of 2 frames, the video has at least 3"):
        notes.check_length(file, 2)
    file.write_text(json.dumps({"face_box": [0, 1, 20, 30], "speaker": "Ann"}))
    assert read_annotations(file).box(77) == (0, 1, 20, 30)
    assert read_annotations(file).speaker == "Ann"
    read_annotations(file).check_length(file, 77)


@pytest.mark.parametrize(
    "told",
    [
        "[]", "", "{", "[" * 100_000, '{"speaker": ""}', '{"speaker": 3}', '{"face_box": 3}', '{"face_box": []}',
        '{"face_box": [1, 2, 3]}', '{"face_box": [1, 2, 3, "4"]}', '{"face_box": [1, 2, 3, NaN]}',
        '{"face_box": [1, 2, 3, 1e300]}', '{"face_box": [[1, 2, 3, 4], 5]}', '{"face_box": [true, 2, 3, 4]}',
        '{"opening": 1}', '{"opening": [null]}', '{"opening": [Infinity]}',
    ],
)  # fmt: skip
def test_what_cannot_be_told_of_a_video(told: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(told)
    with pytest.raises(InvalidMedia, match=r"a\.json"):
        read_annotations(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_share": 1.0}, r"--val-share 1.0 is out of range \[0, 1\)"),
        ({"val_share": float("nan")}, "out of range"),
        ({"fps": 5}, r"--fps 5 is out of range \[10, 50\]"),
        ({"face_model": Path("a"), "boxes_from_json": True}, "exclude each other"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        PrepareOptions(**options)


def test_speakers_are_chosen_by_their_names_alone() -> None:
    names = [f"speaker {k}" for k in range(1000)]
    chosen = chosen_for_val(names, 0.1)
    assert 70 < len(chosen) < 130
    assert chosen_for_val(reversed(names), 0.1) == chosen
    assert chosen_for_val(names[:500], 0.1) == chosen & set(names[:500])
    assert chosen_for_val(names, 0.3) > chosen
    assert chosen_for_val(names, 0) == set()


def test_few_speakers_are_on_both_sides() -> None:
    for count in range(2, 8):
        names = {f"speaker {k}" for k in range(count)}
        for share in (0.01, 0.5, 0.99):
            assert 1 <= len(chosen_for_val(names, share)) < count
    assert chosen_for_val(["one"], 0.5) == set()


def test_clips_are_where_the_face_is() -> None:
    boxes = [None] * 3 + [HERE] * 40 + [None] + [HERE] * 24 + [None] + [HERE] * 25
    assert cut_clips(boxes, Fraction(25)) == [range(3, 43), range(69, 94)]
    assert cut_clips([None] * 50, Fraction(25)) == []
    assert cut_clips([], Fraction(25)) == []


def test_a_clip_ends_where_the_face_jumps() -> None:
    assert cut_clips([HERE] * 30 + [THERE] * 30, Fraction(25)) == [range(30), range(30, 60)]


def test_long_stretches_are_cut_evenly() -> None:
    assert cut_clips([HERE] * 751, Fraction(25)) == [range(376), range(376, 751)]
    clips = cut_clips([HERE] * 5000, Fraction(24))
    assert [clip.start for clip in clips][1:] == [clip.stop for clip in clips][:-1]
    assert (clips[0].start, clips[-1].stop) == (0, 5000)
    assert max(map(len, clips)) <= 720


@pytest.mark.parametrize("fps", range(10, 51))
def test_a_clip_begins_with_an_audio_state(fps: int) -> None:
    for clip in cut_clips([None] * 7 + [HERE] * 4000, Fraction(fps)):
        assert (clip.start * 50) % fps == 0
        assert fps <= len(clip) <= 30 * fps


def test_frames_are_taken_at_the_nearest_time() -> None:
    steady = [k / 25 for k in range(10)]
    assert nearest_frames(steady, Fraction(25)) == list(range(10))
    jittered = [5 + time + 0.015 * ((k > 0) - (k % 3)) for k, time in enumerate(steady)]
    assert nearest_frames(jittered, Fraction(25)) == list(range(10))
    assert nearest_frames([k / 50 for k in range(10)], Fraction(25)) == [0, 2, 4, 6, 8]
    assert nearest_frames([k / 30 for k in range(12)], Fraction(25)) == [0, 1, 2, 4, 5, 6, 7, 8, 10, 11]
    assert nearest_frames([0, 0.12], Fraction(25)) == [0, 0, 1, 1, 1, 1]
    assert nearest_frames([3.0], Fraction(25)) == [0]


@pytest.mark.parametrize(("delay", "expected"), [(0.0, 45), (0.4, 65), (-0.4, 25)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_is_in_step_with_the_picture(delay: float, expected: int, suffix: str, tmp_path: Path) -> None:
    """A click 0.9 s into the sound is in the state that it has by the picture's clock."""
    samples = np.zeros(32_000, np.int16)
    samples[14_400:14_500] = 20_000
    video = write_talk(tmp_path / f"a{suffix}", 50, samples=samples, delay=delay)
    from musetalk_runtime.prepare.source.video import VideoSource

    states, heard = read_audio_states(video, VideoSource(video, 60).start, loudness, SPEC)
    assert states.shape == (heard // 320, SPEC.audio_states, SPEC.audio_width)
    assert states[:, 0, 0].argmax() == pytest.approx(expected, abs=1)
    assert heard == pytest.approx(32_000 + delay * 16_000, abs=2048)  # AAC fills its last frame


def test_long_sound_is_heard_in_segments(tmp_path: Path) -> None:
    lengths = []

    def encode(mel: np.ndarray, rows: slice) -> np.ndarray:
        lengths.append(mel.shape[1])
        return loudness(mel, rows)

    samples = (np.random.default_rng(0).normal(size=16_000 * 61) * 1000).astype(np.int16)
    video = write_talk(tmp_path / "a.mkv", 3, samples=samples)
    states, heard = read_audio_states(video, 0.0, encode, SPEC)
    assert lengths == [3000] * 3
    assert (len(states), heard) == (61 * 50, 61 * 16_000)
    assert (states[:, 0, 0] > states[:, 0, 0].max() - 1).all()


def test_sound_that_is_far_off_or_of_no_use(tmp_path: Path) -> None:
    far = write_talk(tmp_path / "far.mkv", 3, delay=12.0)
    with pytest.raises(InvalidMedia, match=r"begins 12\.0 s after the picture"):
        read_audio_states(far, 0.0, loudness, SPEC)
    short = write_talk(tmp_path / "short.mkv", 3, samples=np.zeros(300, np.int16))
    with pytest.raises(InvalidMedia, match=r"0\.02 s of sound"):
        read_audio_states(short, 0.0, loudness, SPEC)
    video = write_talk(tmp_path / "a.mkv", 3)
    with pytest.raises(InvalidMedia, match="no finite audio states"):
        read_audio_states(video, 0.0, lambda *given: loudness(*given) + np.float32("nan"), SPEC)


def test_progress_tells_the_share_and_the_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("a.mp4", 100), ("b.mp4", 300), ("c.mp4", 600)):
        (tmp_path / name).write_bytes(bytes(size))
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Progress(find_source_videos(tmp_path)[0], "distill-student") as progress:
        progress.finished("a.mp4", kept=True)
        clock[0] = 100.0
        progress.part("b.mp4", 0.5)
        progress.finished("b.mp4", kept=False)
        clock[0] = 7200.0
        progress.part("c.mp4", 0.0)
    assert capsys.readouterr().err.splitlines() == [
        "distill-student: 25.0%, about 8 min left: b.mp4",
        "distill-student: 40.0%, about 4 h 0 min left: c.mp4",
    ]


def test_notes_say_nothing_by_default() -> None:
    Annotations().check_length(Path("a.json"), 1000)


def loudness(mel: np.ndarray, rows: slice) -> np.ndarray:
    """States that tell how loud it is."""
    loud = mel.mean(axis=0).reshape(-1, 2).mean(axis=1).astype(np.float32)[rows]
    return np.broadcast_to(loud[:, None, None], (len(loud), SPEC.audio_states, SPEC.audio_width))
