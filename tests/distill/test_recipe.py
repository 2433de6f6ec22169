"""The way from an empty folder to a speaking face, as docs/distilling.md shows it, at the smallest size."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest

from helpers.paths import ROOT
from musetalk_distill.shards.shards import Shards


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_an_empty_folder_to_a_speaking_face(tmp_path: Path) -> None:
    work, environment = tmp_path / "work", {**os.environ, "SIZES": "smallest", "JOBS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment["PYTHONPATH"] = os.pathsep.join(str(ROOT / folder) for folder in ("export", "engines", "runtime"))
    command = [str(ROOT / "scripts" / "demo_recipe"), str(work)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].startswith(f"{work}/talk.mp4; to ship it")

    clips = [*Shards.open(work / "shards").clips("train"), *Shards.open(work / "shards").clips("val")]
    assert [(clip.split, clip.speaker, clip.fps) for clip in clips] == [
        ("train", "drawn-33", Fraction(10)),
        ("val", "held-out-10", Fraction(10)),
    ]
    report = json.loads((work / "evaluation.json").read_text())
    assert report["clips"] == 1
    assert [row["name"].count("decoder/decoder") for row in report["models"]] == [0, 1, 0, 0, 1]
    speech = json.loads((work / "speech.json").read_text())
    spoken = len(speech["opening"]) / speech["fps"]
    with av.open(str(work / "talk.mp4")) as container:
        shown = sum(1 for _ in container.decode(video=0)) / float(container.streams.video[0].average_rate)
    with av.open(str(work / "talk.mp4")) as container:
        heard = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert abs(shown - spoken) < 0.2
    assert abs(heard - spoken) < 0.2
    assert (work / "held-out-000030.png").is_file()  # her lips over time, beside the truth
    assert {path.name for path in (work / "demo_data").iterdir()} == {"avatar", "bundle", "speech.wav"}
