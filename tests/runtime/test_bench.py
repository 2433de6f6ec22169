import json
import os
import subprocess
from pathlib import Path

import pytest

from helpers.processes import EDGE

pytestmark = pytest.mark.slow


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*EDGE, "bench", *arguments], capture_output=True, text=True)


def test_bench_prints_its_figures_as_json(bundle: Path, avatar: Path) -> None:
    done = run("-b", str(bundle), "-a", str(avatar), "--seconds", "2")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    print(done.stdout)
    assert (figures["frames"], figures["stream_fps"]) == (50, 25.0)
    assert (figures["width"], figures["height"]) == (320, 240)
    assert figures["fps"] > 0
    assert figures["processor"]
    assert 0 < figures["cores"] <= len(os.sched_getaffinity(0))
    assert figures["first_fragment_seconds"] > 0
    stages = {"audio_encoder", "generate", "compose", "encode_sound", "encode", "mux"}
    assert stages <= set(figures["stages"])
    assert stages | {"open_audio", "open_renderer", "open_output"} <= set(figures["first_ms"])
    assert len(figures["memory_mb"]) >= 10
    assert figures["gpu_memory_mb"] is None
    assert any("other programs' memory" in line for line in figures["not_measured"])
    warm = figures["warm_sessions"]
    assert warm["audio_seconds"] == 5
    assert len(warm["first_fragment_seconds"]) == 5
    assert all(seconds > 0 for seconds in warm["first_fragment_seconds"])
    assert warm["first_ms"].keys() >= stages
    paced = figures["paced"]
    assert paced["frames"] == 50
    assert paced["fps"] <= 25
    assert paced["x264_share"] > 0
    assert paced["cpu_share_of_a_core"] > paced["x264_share"]
    assert paced["without_x264"] == pytest.approx(paced["cpu_share_of_a_core"] - paced["x264_share"], abs=2e-4)


def test_bench_refuses_a_length_out_of_range(bundle: Path) -> None:
    done = run("-b", str(bundle), "--seconds", "0.1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "out of range [1, 36000]" in done.stderr
