"""``distill-student prepare`` from end to end: real videos, real encoders, and all that can be wrong with them."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from helpers.avatars import YUNET, data_file
from helpers.clips import BOX, write_talk
from helpers.media import moving_picture, write_video
from helpers.paths import ROOT
from helpers.training import SMALL
from musetalk_distill.cli import main
from musetalk_distill.prepare.clip_builder import ClipBuilder
from musetalk_distill.prepare.encoders import Encoders
from musetalk_distill.prepare.options import PrepareOptions as ShardOptions
from musetalk_distill.prepare.prepare import in_threads, prepare_shards
from musetalk_distill.prepare.progress import Progress
from musetalk_distill.prepare.work import ClipFolder
from musetalk_distill.shards.shards import Clip, ClipTensors, Shards, window_start
from musetalk_engines.build import build_bundle
from musetalk_export.checkpoint.preset import init_checkpoint
from musetalk_export.export import export_model_set
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.speech import SpeechFrames
from musetalk_runtime.avatar.crop import crop_face
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.prepare.source.video import VideoSource


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch's threads wait for each other by spinning: on a busy machine one is several times as fast as two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose faces are 64x64, and whose UNet, which nothing here runs, is one block down and one up."""
    unet = {**SMALL.unet, "layers_per_block": 1, "mid_block_type": None, "block_out_channels": [8]}
    unet |= {"down_block_types": ["CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D"]}
    folder = tmp_path_factory.mktemp("small") / "checkpoint"
    init_checkpoint(replace(SMALL, unet=unet), folder, tree="diffusers")
    return folder


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    export_model_set(checkpoint, folder / "set")
    build_bundle(folder / "set", folder / "bundle", (1,), None, print)
    return folder / "bundle"


def prepare(videos: Path, output: Path, checkpoint: Path, *options: str) -> int:
    options = options or ("--face-boxes-from-json",)
    return main(["prepare", str(videos), "-o", str(output), "--checkpoint", str(checkpoint), "--json", *options])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people: one in two videos, of which one is at 30 fps and tells a box for every frame; all sound is AAC."""
    folder = tmp_path_factory.mktemp("videos")
    write_talk(folder / "ann_1.mp4", 30, face_box=BOX, opening=[k / 30 for k in range(30)])
    boxes = [[BOX[0] - k, *BOX[1:]] for k in range(36)]
    write_talk(folder / "ann_2.mp4", 36, 30, face_box=boxes, opening=list(range(36)))
    write_talk(folder / "talk.mp4", 27, face_box=BOX, speaker="Bob")
    return folder


@pytest.fixture(scope="module")
def shards(videos: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    output = tmp_path_factory.mktemp("shards") / "out"
    assert prepare(videos, output, checkpoint) == 0
    assert [file.name for file in output.parent.iterdir()] == ["out"]
    return Shards.open(output)


def clips_of(shards: Shards) -> dict[str, tuple[Clip, ClipTensors]]:
    clips = [*shards.clips("train"), *shards.clips("val")]
    return {clip.id: (clip, shards.tensors(clip)) for clip in clips}


def test_speakers_and_splits(shards: Shards) -> None:
    found = {name: (clip.speaker, clip.frames, clip.fps) for name, (clip, _) in clips_of(shards).items()}
    assert found == {
        "ann_1.mp4-0": ("ann", 30, Fraction(25)),
        "ann_2.mp4-0": ("ann", 30, Fraction(25)),
        "talk.mp4-0": ("Bob", 27, Fraction(25)),
    }
    speakers = [{clip.speaker for clip in shards.clips(split)} for split in ("train", "val")]
    assert sorted(map(sorted, speakers)) == [["Bob"], ["ann"]]
    assert shards.manifest["encoder_id"] == shards.spec.encoder_id
    assert len(shards.manifest["audio_encoder_id"]) == 64
    assert (shards.manifest["skipped"], shards.manifest["left_out"]) == ([], [])


def test_latents_are_the_avatar_packs(shards: Shards, videos: Path, bundle: Bundle, tmp_path: Path) -> None:
    with Bundle.open(bundle) as opened:
        for name in ("ann_1.mp4", "talk.mp4"):
            prepare_avatar(videos / name, opened, tmp_path / name, PrepareOptions(face_box=tuple(BOX)))
            _, tensors = clips_of(shards)[f"{name}-0"]
            with Avatar.open(tmp_path / name) as avatar:
                found = np.concatenate([tensors.masked, tensors.latents], axis=1).astype(np.float32)
                np.testing.assert_allclose(found, avatar.latents.astype(np.float32), rtol=1e-3, atol=1e-3)
                assert np.abs(found).max() > 0.5


def test_states_are_what_the_runtime_hears(shards: Shards, videos: Path, bundle: Path) -> None:
    spec = shards.spec
    with Bundle.open(bundle) as opened:
        for name in ("ann_1.mp4", "ann_2.mp4", "talk.mp4"):
            clip, tensors = clips_of(shards)[f"{name}-0"]
            heard = SpeechFrames(AudioFile(videos / name), opened.engines.encode_audio, spec, clip.fps, 30.0)
            frames = list(heard)[: clip.frames]
            assert len(frames) == clip.frames
            for frame in frames:
                start = window_start(frame.index, clip.fps, spec)
                window = tensors.states[max(0, start) : start + spec.window_steps].astype(np.float32)
                expected = frame.tokens.reshape(spec.window_steps, spec.audio_states, spec.audio_width)
                np.testing.assert_allclose(window, expected[max(0, -start) :], rtol=1e-3, atol=2e-3)


def test_images_and_opening(shards: Shards, videos: Path) -> None:
    for name, (clip, tensors) in clips_of(shards).items():
        if clip.split == "train":
            assert (tensors.images, tensors.images_at) == (None, None)
            continue
        assert tensors.images is not None
        assert tensors.images_at is not None
        assert len(tensors.images_at) == 16
        assert (tensors.images_at[0], tensors.images_at[-1]) == (0, clip.frames - 1)
        source = VideoSource(videos / name.removesuffix("-0"), 60, clip.fps)
        frames = list(source.frames())
        for image, at in zip(tensors.images, tensors.images_at, strict=True):
            left = BOX[0] - (source.indexes[at] if name.startswith("ann_2") else 0)
            expected = crop_face(frames[at], (left, *BOX[1:]), shards.spec.image_size)
            np.testing.assert_array_equal(image, expected.transpose(2, 0, 1))
    found = clips_of(shards)
    assert found["talk.mp4-0"][1].opening is None
    np.testing.assert_allclose(found["ann_1.mp4-0"][1].opening, np.arange(30) / 30, rtol=1e-6)
    assert found["ann_2.mp4-0"][1].opening.tolist() == VideoSource(videos / "ann_2.mp4", 60, Fraction(25)).indexes


def test_faces_are_found_and_parts_without_are_left_out(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with av.open(str(data_file("yongen.mp4"))) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    frame = cv2.resize(picture, (176, 304))
    blank = np.full_like(frame, 90)
    shown = [frame] * 26 + [blank] * 14 + [frame] * 27
    write_talk(tmp_path / "videos" / "a.mp4", shown)
    status = prepare(tmp_path / "videos", tmp_path / "out", checkpoint, "--face-model", str(data_file(YUNET)))
    assert status == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert "only one speaker (a): all clips are for training" in captured.err
    assert report["left_out"] == [{"video": "a.mp4", "frames": 14, "of": 67}]
    assert (report["train"]["clips"], report["val"]["clips"]) == (2, 0)
    clips = clips_of(Shards.open(tmp_path / "out"))
    assert [(clip.id, clip.frames) for clip, _ in sorted(clips.values(), key=lambda pair: pair[0].id)] == [
        ("a.mp4-0", 26),
        ("a.mp4-1", 27),
    ]
    later = clips["a.mp4-1"][1].states
    assert later[:20].any()


def test_drawn_people_who_are_held_out_are_not_trained_on(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """As `distill-student draw` and `draw --held-out` leave them in one folder."""
    for name, speaker, held_out in (
        ("drawn-0", "drawn-09", False),
        ("drawn-1", "drawn-24", False),
        ("held-out-0", "held-out-03", True),
    ):
        write_talk(tmp_path / "videos" / f"{name}.mp4", 26, face_box=BOX, speaker=speaker, held_out=held_out)
    assert prepare(tmp_path / "videos", tmp_path / "out", checkpoint) == 0
    shards = Shards.open(tmp_path / "out")
    assert {clip.speaker for clip in shards.clips("train")} == {"drawn-09", "drawn-24"}
    assert [clip.id for clip in shards.clips("val")] == ["held-out-0.mp4-0"]
    capsys.readouterr()
    file = tmp_path / "videos" / "drawn-1.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "speaker": "held-out-03"}))
    assert prepare(tmp_path / "videos", tmp_path / "other", checkpoint) == 2
    assert "held-out-03 would be trained on and kept for validation" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video\n" * 100)
    for name in ("cut", "mute", "short", "notes", "few", "outside", "boxless", "plain", "held"):
        notes: dict[str, Any] = {"face_box": BOX}
        if name == "few":
            notes = {"face_box": [BOX] * 29}
        if name == "outside":
            notes = {"face_box": [320, 0, 400, 80]}
        if name == "boxless":
            notes = {"opening": [0] * 30}
        if name == "held":
            notes["held_out"] = "yes"
        frames = {"short": 20, "plain": [np.full((240, 320, 3), (200, 40, 90), np.uint8)] * 30}.get(name, 30)
        write_talk(folder / f"{name}.mp4", frames, **notes)
    (folder / "link.mp4").symlink_to("nothing.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "cut.mp4").write_bytes((folder / "cut.mp4").read_bytes()[:3000])
    (folder / "notes.json").write_text('{"face_box": [1, 2, 3]}')
    write_video(folder / "mute.mp4", [moving_picture(k) for k in range(30)])
    return folder


REASONS = {
    "link.mp4": "a link to nothing",
    "pipe.mp4": "a FIFO",
    "boxless.mp4": "no JSON file beside it names its face_box",
    "cut.mp4": "not a readable video",
    "empty.mp4": "not a readable video",
    "few.mp4": "face_box tells of 29 frames, the video has at least 30",
    "held.mp4": "held_out is yes, expected true or false",
    "mute.mp4": "no audio stream",
    "notes.mp4": "face_box is [1, 2, 3]",
    "outside.mp4": "face_box [320, 0, 400, 80] lies outside the frame of 320x240 pixels (30 of 30 frames)",
    "plain.mp4": "its face_box shows one colour",
    "short.mp4": "no stretch of 1 s with one face and sound, in 0.8 s",
    "text.mp4": "not a readable video",
}


def test_broken_videos_alone_are_an_error(
    broken: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert prepare(broken, tmp_path / "out", checkpoint) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "skipped " in line or "error: " in line]
    assert captured.out == ""
    assert len(lines) == len(REASONS) + 1
    for line, (name, reason) in zip(lines, REASONS.items(), strict=False):
        assert line.startswith(f"distill-student: skipped {name}: ")
        assert reason in line
    assert "error: " in lines[-1]
    assert "none of its 11 videos is of use" in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_broken_videos_are_left_out(
    broken: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("mute.mp4", "text.mp4"):
        (tmp_path / "videos" / name).write_bytes((broken / name).read_bytes())
    for name in ("a", "b"):
        write_talk(tmp_path / "videos" / f"{name}.mp4", 26, face_box=BOX)
    assert prepare(tmp_path / "videos", tmp_path / "out", checkpoint) == 0
    report = json.loads(capsys.readouterr().out)
    assert [entry["video"] for entry in report["skipped"]] == ["mute.mp4", "text.mp4"]
    assert Shards.open(tmp_path / "out").manifest["skipped"] == report["skipped"]
    assert {split: report[split]["frames"] for split in ("train", "val")} == {"train": 26, "val": 26}


KILLED = """
import os, signal, sys
import musetalk_distill.prepare.prepare
from musetalk_distill.cli import main
from musetalk_distill.prepare.clip_builder import ClipBuilder
from musetalk_distill.prepare.encoders import Encoders
from musetalk_distill.prepare.options import PrepareOptions as ShardOptions
from musetalk_distill.prepare.prepare import prepare_shards
from musetalk_distill.prepare.work import ClipFolder
from musetalk_distill.shards.writer import ShardWriter

def killed(owner, name, count):
    original, calls = getattr(owner, name), []
    def method(*arguments):
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)
    setattr(owner, name, method)

output, work = sys.argv[1:3]
for point in ((ClipBuilder, "add", 45), (ClipFolder, "finish", 1), (ShardWriter, "add", 2)):
    child = os.fork()  # PyTorch is imported once, and has no threads yet
    if not child:
        killed(*point)
        os._exit(main(sys.argv[3:]))
    status = os.waitpid(child, 0)[1]
    records = [name for name in os.listdir(work) if name.endswith(".json")]
    print(os.WTERMSIG(status), os.path.exists(output), len(records))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(
    shards: Shards, videos: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, work = tmp_path / "out", tmp_path / ".out.work"
    arguments = ["prepare", str(videos), "-o", str(output), "--checkpoint", str(checkpoint), "--face-boxes-from-json"]
    path = os.pathsep.join(str(ROOT / source) for source in ("export", "runtime"))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(output), str(work), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    # killed in the second video's clip, before its record, and between two clips of the shards
    assert done.stdout.splitlines() == [f"{int(signal.SIGKILL)} False {records}" for records in (1, 1, 3)]
    assert len(list(tmp_path.glob(".out.*.partial"))) == 1
    monkeypatch.setattr(ClipBuilder, "add", None)  # nothing is left to make
    assert prepare(videos, tmp_path / "out", checkpoint) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    for name in ("train-00000.safetensors", "val-00000.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (shards.path / name).read_bytes()


def test_what_was_kept_is_made_again_when_it_no_longer_fits(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "videos"
    for name in ("ann_1", "bob_1"):
        write_talk(copy / f"{name}.mp4", 25, face_box=BOX)
    monkeypatch.setattr(ClipFolder, "remove", lambda _self: None)
    assert prepare(copy, tmp_path / "out", checkpoint) == 0
    (copy / "ann_1.json").write_text(json.dumps({"face_box": BOX, "opening": [0.5] * 30}))
    damaged = next((tmp_path / ".out.work").glob("*.safetensors"))
    made = []
    write_clip = ClipFolder.write_clip
    monkeypatch.setattr(ClipFolder, "write_clip", lambda *given: (made.append(given[1]), write_clip(*given))[1])
    assert prepare(copy, tmp_path / "out", checkpoint) == 0
    assert made == ["ann_1.mp4"]
    opening = clips_of(Shards.open(tmp_path / "out"))["ann_1.mp4-0"][1].opening
    assert opening is not None
    assert (opening == 0.5).all()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0\1")
    made.clear()
    assert prepare(copy, tmp_path / "out", checkpoint) == 0
    assert len(made) == 1


def test_a_full_disk(videos: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        status = prepare(videos, tmp_path / "out", checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert "File too large" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def three_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three videos at a time, as with a GPU."""

    class BusyEncoders(Encoders):
        @contextmanager
        def jobs(self, videos: int) -> Iterator[int]:
            yield videos

    monkeypatch.setattr("musetalk_distill.prepare.prepare.Encoders", BusyEncoders)


def test_videos_share_the_threads_of_a_cpu(checkpoint: Path) -> None:
    encoders, threads = Encoders(checkpoint), torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        for videos, expected in ((1, (1, 5)), (2, (2, 2)), (3, (3, 1)), (100, (4, 1))):
            with encoders.jobs(videos) as jobs:
                assert (jobs, torch.get_num_threads()) == expected
            assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(threads)


@pytest.mark.usefixtures("three_jobs")
def test_videos_at_the_same_time_give_the_same(shards: Shards, videos: Path, checkpoint: Path, tmp_path: Path) -> None:
    assert prepare(videos, tmp_path / "out", checkpoint) == 0
    assert Shards.open(tmp_path / "out").manifest == shards.manifest  # with the hash of every file


@pytest.mark.usefixtures("three_jobs")
def test_an_interrupt_ends_the_work_on_every_video(
    videos: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, stop, stopped, seen, numbers = ClipBuilder.add, Progress.stop, threading.Event(), set[int](), count(1)

    def counted(self: ClipBuilder, crop: np.ndarray) -> None:
        number = next(numbers)
        seen.add(number)
        if number == 5:
            os.kill(os.getpid(), signal.SIGINT)
        elif number > 5:
            assert stopped.wait(60), "the interrupt does not stop the work"
        add(self, crop)

    def stop_all(self: Progress) -> None:
        stop(self)
        stopped.set()

    monkeypatch.setattr(ClipBuilder, "add", counted)
    monkeypatch.setattr(Progress, "stop", stop_all)
    with pytest.raises(KeyboardInterrupt):  # the program itself would end by the signal
        prepare_shards(videos, tmp_path / "out", checkpoint, ShardOptions(boxes_from_json=True))
    assert len(seen) <= 5 + 3  # what each of the three had in hand
    assert not (tmp_path / "out").exists()


def test_an_interrupt_while_videos_are_handed_out_ends_the_work_too() -> None:
    begun, stopped = threading.Event(), threading.Event()

    class Interrupted(list[int]):
        def __iter__(self) -> Iterator[int]:
            yield 1
            assert begun.wait(60)
            raise KeyboardInterrupt

    def work(_: int) -> bool:
        begun.set()
        return stopped.wait(10)

    with pytest.raises(KeyboardInterrupt):
        in_threads(work, Interrupted(), 2, stopped.set)
    assert stopped.is_set()


def test_two_runs_do_not_mix(tmp_path: Path) -> None:
    with ClipFolder(tmp_path / "out"), pytest.raises(InvalidArgument, match="being prepared by another process"):
        ClipFolder(tmp_path / "out").__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no videos in it"),
        (("--val-share", "1.5"), "--val-share 1.5 is out of range"),
        (("--fps", "100"), "--fps 100 is out of range"),
        (("--face-model", "none.onnx"), "none.onnx: no such face detector"),
    ],
)
def test_bad_usage(
    options: tuple[str, ...], message: str, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "videos").mkdir()
    if options[:1] == ("--face-model",):
        (tmp_path / "videos" / "a.mp4").touch()
    assert prepare(tmp_path / "videos", tmp_path / "out", checkpoint, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_detector_or_boxes_are_needed(
    videos: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_talk(tmp_path / "videos" / "a.mp4", 26)
    assert prepare(tmp_path / "videos", tmp_path / "out", checkpoint, "--val-share", "0.2") == 2
    assert "a.mp4: no JSON file beside it names its face_box: give a face detector" in capsys.readouterr().err
    assert prepare(videos, tmp_path, checkpoint) == 2
    assert "exists and is no shards" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["videos"]
