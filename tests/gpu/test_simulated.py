"""The GPU chain's own logic where there is no GPU: CUDA and TensorRT are played by the CPU.

Device memory is host memory, streams run at once, a captured graph is a list of calls; the kernels are the real ones,
compiled for the host, and the plans are run by ONNX Runtime from the addresses that the chain gave. Events are recorded
at ticks of a clock that moves by one for each. What this cannot show is anything about time, and whether CUDA and
TensorRT take the calls: see test_chain.py.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from helpers.cuda_simulator import Gpu, Stream
from helpers.frame_requests import shots
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.avatar.pose_player import PosePlayer
from musetalk_runtime.backends.cuda.avatar import GpuAvatar
from musetalk_runtime.backends.cuda.device import free_memory
from musetalk_runtime.backends.cuda.times import BatchTimes
from musetalk_runtime.backends.trt.chain import Chain
from musetalk_runtime.backends.trt.gpu_facts import gpu_facts
from musetalk_runtime.backends.trt.renderer import GpuOptions
from musetalk_runtime.core.arrays import Bytes
from musetalk_runtime.core.errors import InvalidArgument, MachineError
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.diagnostics.bench import bench, gpu_memory_mb
from musetalk_runtime.diagnostics.doctor import examine
from musetalk_runtime.output.processes.shared_frames import SharedFrames
from musetalk_runtime.service.scheduling.engine_worker import EngineWorker
from musetalk_runtime.service.scheduling.warm_up import warm_up
from musetalk_runtime.session_hooks import SessionHooks

GPU_STAGES = {"gpu_upload", "unet", "vae_decoder", "compose", "gpu_download"}


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_a_session_gives_the_cpu_chains_frames(
    simulated: Bundle, bundle: Path, avatar: Path, speech: Callable[[float], Path], cuda_graph: bool
) -> None:
    simulated.engines.check()
    simulated.engines.options = GpuOptions(cuda_graph=cuda_graph)
    with Bundle.open(bundle) as cpu, Avatar.open(avatar) as face:
        with Session(cpu, face, speech(1.0), fps=10) as session:
            expected = [frame.nv12 for frame in session.frames()]
        for _ in range(2):  # the second time with what the first one left
            with Session(simulated, face, speech(1.0), fps=10) as session:
                found = [frame.nv12 for frame in session.frames()]
                report = session.report()
                assert GPU_STAGES | {"enqueue", "wait"} <= report["stages"].keys() & report["first_ms"].keys()
            assert len(found) == len(expected) == 10
            assert max(np.abs(a.astype(int) - b).max() for a, b in zip(found, expected, strict=True)) <= 1


def test_a_services_first_session_finds_all_chains_made(
    simulated: Bundle, avatar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making one takes most of a second with a large model."""
    made: list[Chain] = []

    def counted(*arguments: Any) -> Chain:
        made.append(Chain(*arguments))
        return made[-1]

    monkeypatch.setattr("musetalk_runtime.backends.trt.pool.Chain", counted)
    with Avatar.open(avatar) as face:
        warm_up(simulated, face)
        assert len(made) == simulated.engines.parallel_renderers == 2
        with EngineWorker(simulated, Timings(), lambda _: None) as worker:
            for _ in range(2):  # the second after the first has gone
                worker.renderer(face, SimpleNamespace()).close()
    assert len(made) == 2


def test_encoders_pad_and_split_batches(simulated: Bundle, bundle: Path) -> None:
    spec = simulated.spec
    images = np.random.default_rng(0).random((11, 3, spec.image_size, spec.image_size), np.float32)
    mel = np.random.default_rng(1).random((spec.mel_bins, 200), np.float32)
    with Bundle.open(bundle) as cpu:
        for count in (1, 2, 5, 11):
            found, expected = (b.engines.encode_images(images[:count]) for b in (simulated, cpu))
            assert np.abs(found - expected).max() < 1e-4
        found, expected = (b.engines.encode_audio(mel) for b in (simulated, cpu))
        assert np.abs(found - expected).max() < 1e-3
    with pytest.raises(InvalidArgument, match=r"202 mel frames.* 200 or 3000"):
        simulated.engines.encode_audio(np.zeros((spec.mel_bins, 202), np.float32))


def test_silent_frames_are_the_avatars_and_need_no_plan(simulated: Bundle, avatar: Path) -> None:
    with Avatar.open(avatar) as face:
        renderer = simulated.engines.renderer(face, Timings())
        found = renderer.render(shots(face, [speech_frame(simulated, k, 0.0) for k in range(3)])).wait()
        assert all(np.array_equal(frame, face.frame(k)) for k, frame in enumerate(found))
        renderer.close()


def test_slots_bound_what_is_on_its_way(simulated: Bundle, avatar: Path) -> None:
    with Avatar.open(avatar) as face:
        renderer = simulated.engines.renderer(face, Timings())
        renderings = [renderer.render(shots(face, [speech_frame(simulated, k)])) for k in range(4)]
        later: list[Any] = []
        thread = threading.Thread(
            target=lambda: later.append(renderer.render(shots(face, [speech_frame(simulated, 4)])))
        )
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        first = renderings[0].wait()
        thread.join(60)
        assert len(later) == 1
        assert np.array_equal(renderings[0].wait()[0], first[0])  # its own copy
        renderings[1].release()
        with pytest.raises(RuntimeError, match="released"):
            renderings[1].wait()
        renderer.close()
        renderer.close()
        with pytest.raises(RuntimeError, match="closed"):
            renderings[2].wait()
        with pytest.raises(RuntimeError, match="closed"):
            renderer.render(shots(face, [speech_frame(simulated, 0)]))


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_each_batch_has_its_own_times(simulated: Bundle, avatar: Path, cuda_graph: bool) -> None:
    """Though four of one graph are on their way before the first is asked for its times."""
    heard: list[BatchTimes] = []
    simulated.engines.options = GpuOptions(cuda_graph=cuda_graph, timeline=heard.append)
    timings = Timings()
    with Avatar.open(avatar) as face:
        renderer = simulated.engines.renderer(face, timings)
        weights = [(1.0,), (1.0, 0.0, 1.0), (0.0, 0.0), (1.0,)]
        batches = [[speech_frame(simulated, k, weight) for k, weight in enumerate(batch)] for batch in weights]
        for rendering in [renderer.render(shots(face, batch)) for batch in batches]:
            rendering.wait()
        renderer.close()
    assert [(times.frames, times.faces) for times in heard] == [(1, 1), (3, 2), (2, 0), (1, 1)]
    ends = 0.0
    for times in heard:
        parts = list(times.parts.values())
        assert list(times.parts) == (["unet", "vae_decoder", "compose"] if times.faces else ["compose"])
        assert times.upload[0] > ends  # the events of a batch come after those of the batch before
        assert times.download is not None
        in_order = [*times.upload, *(at for part in parts for at in part), *times.download]
        assert in_order == sorted(in_order)
        assert times.compute == (parts[0][0], parts[-1][1])
        assert all(end - begin == 1 for begin, end in (times.upload, *parts, times.download))
        ends = times.download[1]
    stages = timings.to_json()
    assert set(stages) == GPU_STAGES | {"enqueue", "wait"}
    assert stages["unet"]["p50_ms"] == 0.75  # of 1, 1/2, 1/2 and 1: frames without a face do not count
    assert stages["compose"]["p99_ms"] == 1
    assert {timings.first_ms[stage] for stage in GPU_STAGES} == {1.0}


@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize("download", [True, False])
def test_mapped_frames_are_the_copied_ones_without_a_copy(
    simulated: Bundle, avatar: Path, download: bool, cuda_graph: bool
) -> None:
    heard: list[BatchTimes] = []
    weights = [(1.0,), (1.0, 0.0, 0.5), (0.0, 0.0), (1.0,)]
    batches = [[speech_frame(simulated, k, weight) for k, weight in enumerate(batch)] for batch in weights]

    def made(frames: Literal["copied", "mapped"], timings: Timings) -> tuple[list[bytes], int]:
        heard.clear()
        simulated.engines.options = GpuOptions(cuda_graph, download=download, timeline=heard.append, frames=frames)
        renderer = simulated.engines.renderer(face, timings)
        before, found = Gpu.copies, []
        for first, second in zip(batches[::2], batches[1::2], strict=True):  # two on their way
            renderings = [renderer.render(shots(face, batch)) for batch in (first, second)]
            left = [bytes_of(frame) for frame in renderings[0].arrays()]
            found += [frame.tobytes() for rendering in renderings for frame in rendering.wait()]
            assert left == found[-len(first) - len(second) :][: len(first)]
        renderings = [renderer.render(shots(face, batches[0])) for _ in range(4)]
        for rendering in renderings:  # unread
            rendering.release()
        copies = Gpu.copies - before
        renderer.close()
        return found, copies

    with Avatar.open(avatar) as face:
        for _ in range(2):  # the second time with the memory that the other kind left
            copied, mapped = Timings(), Timings()
            expected, copies = made("copied", copied)
            assert all(times.download is not None for times in heard)
            found, fewer = made("mapped", mapped)
            assert found == expected
            assert copies - fewer == len(batches) + (4 if download else 0)
            assert len(heard) == len(batches)
            assert all(times.download is None for times in heard)
            assert set(copied.to_json()) - set(mapped.to_json()) == {"gpu_download"}


def test_frames_for_the_host_are_mapped_where_the_gpu_is_integrated(
    simulated: Bundle, avatar: Path, speech: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Avatar.open(avatar) as face:
        with Session(simulated, face, speech(1.0), fps=10) as session:
            expected = [frame.nv12 for frame in session.frames()]
            assert "gpu_download" in session.report()["stages"]
        monkeypatch.setattr(Gpu, "integrated", True)
        with Session(simulated, face, speech(1.0), fps=10) as session:
            found = [frame.nv12 for frame in session.frames()]
            assert "gpu_download" not in session.report()["stages"]
        assert np.array_equal(found, expected)
        with Bundle.open(simulated.path, download=False) as left, Session(left, face, speech(1.0), fps=10) as session:
            assert [bytes_of(frame.nv12) for frame in session.gpu_frames()] == [frame.tobytes() for frame in expected]
        assert not GpuOptions(download=False).mapped
        assert not GpuOptions(frames="copied").mapped


def test_bench_tells_the_gpus_part(simulated: Bundle, avatar: Path) -> None:
    with Avatar.open(avatar) as face:
        figures = bench(simulated, face, 1.0, "10")
    assert figures["gpu_memory_mb"] == round((Gpu.memory[1] - Gpu.memory[0]) / 1e6, 1)
    assert figures["stages"].keys() & figures["warm_sessions"]["first_ms"].keys() >= GPU_STAGES
    assert figures["paced"]["frames"] == 10


def test_frames_of_a_batch_lie_together_where_other_processes_read_them(
    simulated: Bundle, avatar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> list[Bytes]:
        renderer = simulated.engines.renderer(face, Timings())
        rendering = renderer.render(shots(face, [speech_frame(simulated, k) for k in range(2)]))
        frames = rendering.wait()
        renderer.close()
        return frames

    with Avatar.open(avatar) as face, SharedFrames() as shared:
        expected = made()
        monkeypatch.setattr(simulated.engines, "new_frame", shared.new)
        for _ in range(2):  # once nothing refers to either, others have their place
            frames = made()
            assert [shared.offset(frame) for frame in frames] == [0, expected[0].nbytes]
            assert np.array_equal(frames, expected)
            del frames


def test_frames_stay_on_the_gpu_for_an_application(simulated: Bundle, avatar: Path) -> None:
    stream = Stream()
    for given in (stream, stream.handle):
        simulated.engines.options = GpuOptions(stream=given, download=False)
        with Avatar.open(avatar) as face:
            renderer = simulated.engines.renderer(face, Timings())
            rendering = renderer.render(shots(face, [speech_frame(simulated, k) for k in range(2)]))
            described = [frame.__cuda_array_interface__ for frame in rendering.arrays()]
            assert {entry["stream"] for entry in described} == {stream.handle}
            assert described[0]["shape"] == (face.height * 3 // 2, face.width)
            read = [ctypes.string_at(entry["data"][0], int(np.prod(entry["shape"]))) for entry in described]
            assert read == [frame.tobytes() for frame in rendering.wait()]
            renderer.close()
    simulated.engines.options = GpuOptions(stream="stream")
    with Avatar.open(avatar) as face, pytest.raises(InvalidArgument, match="is no CUDA stream"):
        simulated.engines.renderer(face, Timings())


def test_a_session_leaves_its_frames_on_the_gpu(
    simulated: Bundle, avatar: Path, speech: Callable[[float], Path]
) -> None:
    stream = Stream()
    with Avatar.open(avatar) as face, Bundle.open(simulated.path, stream=stream, download=False) as left:
        with Session(simulated, face, speech(1.0), fps=10) as session:
            expected = [
                (frame.index, frame.pts, frame.nv12.tobytes(), len(frame.sound[0])) for frame in session.frames()
            ]
        with Session(left, face, speech(1.0), fps=10) as session:
            found = []
            for frame in session.gpu_frames():
                described = frame.nv12.__cuda_array_interface__
                assert described["stream"] == stream.handle
                read = ctypes.string_at(described["data"][0], int(np.prod(frame.nv12.shape)))
                found.append((frame.index, frame.pts, read, len(frame.sound[0])))
            assert session.frames_made == 10
        assert found == expected
        with Session(left, face, speech(1.0), fps=10) as session:  # a stream brings them to the host after all
            assert len(b"".join(session.stream())) > 10_000


def test_poses_are_crossfaded_as_on_the_cpu(
    simulated: Bundle, bundle: Path, posed: Path, speech: Callable[[float], Path]
) -> None:
    def made(opened: Bundle, face: Avatar) -> list[np.ndarray]:
        player = PosePlayer(face, Fraction(10))
        player.ask("nod", at=0.3)
        with Session(opened, face, speech(2.5), fps=10, direction=SessionHooks(poses=player)) as session:
            return [frame.nv12 for frame in session.frames()]

    with Bundle.open(bundle) as cpu, Avatar.open(posed) as face:
        found, expected = made(simulated, face), made(cpu, face)
    assert len(found) == len(expected) == 25
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(found, expected, strict=True)) <= 1


def test_of_a_crossfade_that_stays_on_the_gpu_the_nearer_frame_is_given(simulated: Bundle, posed: Path) -> None:
    with Avatar.open(posed) as face, Bundle.open(simulated.path, stream=Stream(), download=False) as left:
        expected, player = (PosePlayer(face, Fraction(25)) for _ in range(2))
        for one in (expected, player):
            one.ask("nod", repeat=True)
        with Session(left, face, [bytes(32_000)], fps=25, direction=SessionHooks(poses=player)) as session:
            found = [bytes_of(frame.nv12) for frame in session.gpu_frames()]
        shown = [expected.shown(k) for k in range(25)]
        assert sum(one.into is not None for one in shown) == 8
        nearer = [one.frame if one.into is None or one.share < 0.5 else one.into for one in shown]
        assert found == [face.frame(index).tobytes() for index in nearer]


def test_a_cpus_frames_are_not_on_a_gpu(bundle: Path, avatar: Path, speech: Callable[[float], Path]) -> None:
    with Bundle.open(bundle) as cpu, Avatar.open(avatar) as face, Session(cpu, face, speech(1.0), fps=10) as session:
        frames = session.gpu_frames()
        with pytest.raises(MachineError, match="need a bundle for one"):
            next(frames)


def test_an_avatar_that_does_not_fit_is_refused(
    simulated: Bundle, avatar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gpu, "memory", (100_000_000, 1 << 34))
    with Avatar.open(avatar) as face, pytest.raises(MachineError, match=r"12 frames of 320x240 need .* MB on the GPU"):
        simulated.engines.renderer(face, Timings())


def test_kernels_of_an_earlier_version_are_refused_before_anything_is_made(
    simulated: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernel(name: str) -> str:
        if name not in {"gather_half", "gather_float", "compose_half", "compose_float"}:
            raise RuntimeError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return name

    code = SimpleNamespace(from_cubin=lambda _: SimpleNamespace(get_kernel=kernel))
    monkeypatch.setattr(sys.modules["cuda.core"], "ObjectCode", code)
    with pytest.raises(MachineError, match=r"compose\.cubin: .* of an earlier version .*: run build-engines here"):
        simulated.engines.check()


def test_an_integrated_gpu_has_what_the_system_has_available(
    simulated: Bundle, avatar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though CUDA says that nothing is free, since it counts the page cache as used."""
    monkeypatch.setattr(Gpu, "memory", (0, 1 << 34))
    monkeypatch.setattr(Gpu, "integrated", True)
    with Avatar.open(avatar) as face:
        simulated.engines.renderer(face, Timings()).close()
        used = gpu_memory_mb(simulated)
    free, total = free_memory()
    assert 0 < free < total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert used is not None
    assert 0 < used < total / 1e6
    facts = gpu_facts()
    assert (facts.integrated, facts.memory_mb) == (True, total // 1_000_000)
    found = next(finding for finding in examine(None, print) if finding.name == "gpu")
    assert found.text.endswith(f"{total / 1e9:.0f} GB of memory shared with the system")
    assert found.facts["integrated"] is True


def test_a_session_may_end_while_frames_of_another_are_made(
    simulated: Bundle, avatar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves: list[bool] = []

    def avatar_of(lent: GpuAvatar) -> Avatar:
        found: Avatar = vars(lent)["avatar"]
        if found is first and leaves:
            leaves.clear()
            renderer.release(first)  # as another thread does, just when this one looks
        return found

    looked_at = property(avatar_of, lambda lent, given: vars(lent).update(avatar=given))
    monkeypatch.setattr(GpuAvatar, "avatar", looked_at, raising=False)
    with Avatar.open(avatar) as first, Avatar.open(avatar) as second:
        renderer = simulated.engines.renderer(first, Timings())
        renderer.hold(second)
        leaves.append(True)
        found = renderer.render(shots(second, [speech_frame(simulated, 0, 0.0)])).wait()
        assert not leaves
        assert np.array_equal(found[0], second.frame(0))
        renderer.close()


def bytes_of(frame: Any) -> bytes:
    described = frame.__cuda_array_interface__
    return ctypes.string_at(described["data"][0], int(np.prod(described["shape"])))


def speech_frame(bundle: Bundle, index: int, weight: float = 1.0) -> SpeechFrame:
    tokens = np.random.default_rng(index).normal(size=(bundle.spec.tokens, bundle.spec.audio_width))
    return SpeechFrame(index, tokens.astype(np.float32), weight, np.zeros((1, 0), np.float32))
