import json
import subprocess
import sys
from pathlib import Path

RUN = "from musetalk_runtime.cli.main import main; raise SystemExit(main())"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", RUN, "bench", *arguments], capture_output=True, text=True)


def test_bench_prints_its_figures_as_json(bundle: Path, avatar: Path) -> None:
    done = run("-b", str(bundle), "-a", str(avatar), "--seconds", "3")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["frames"], figures["stream_fps"]) == (75, 25.0)
    assert (figures["width"], figures["height"]) == (320, 240)
    assert figures["fps"] > 0
    assert figures["first_fragment_seconds"] > 0
    assert set(figures["stages"]) == {"audio_encoder", "generate", "compose", "encode"}
    assert len(figures["memory_mb"]) >= 10
    assert figures["not_measured"]


def test_bench_refuses_a_length_out_of_range(bundle: Path) -> None:
    done = run("-b", str(bundle), "--seconds", "0.1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "out of range [1, 36000]" in done.stderr
