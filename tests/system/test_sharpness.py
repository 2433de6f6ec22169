"""A short run of scripts/bench/sharpness.py: the goals of docs/sharpness.md, with a generator without faults."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from helpers.avatars import make_bundle, write_video
from helpers.paths import ROOT
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.diagnostics.synthetic import FACE_BOX, draw_face
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar

SCALE = 2  # of the drawing


def test_a_large_face_is_as_sharp_as_its_frame_and_no_old_lips_are_seen(tmp_path: Path) -> None:
    video = write_video(tmp_path / "face.mp4", [frame(k) for k in range(4)])
    x0, y0, x1, y1 = (SCALE * value for value in FACE_BOX)
    with Bundle.open(make_bundle(tmp_path / "bundle")) as bundle:
        prepare_avatar(video, bundle, tmp_path / "avatar", PrepareOptions(face_box=(x0, y0, x1, y1)))
    script = ROOT / "scripts/bench/sharpness.py"
    command = [sys.executable, str(script), str(tmp_path / "avatar"), "--frames", "4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["box"] == [x1 - x0, y1 - y0]
    assert found["perfect"]["linear"]["skin"]["energy"] < 0.8
    for name in ("perfect", "darker", "noisy"):
        now = found[name]["auto"]
        assert 0.95 <= now["skin"]["energy"] <= 1.05
        assert now["skin"]["ssim"] >= 0.98
        assert abs(now["seam"]) < 0.1
        assert now["flicker"] <= 1.05
        assert now["overshoot"][1] <= 2
    for name in ("other_mouth", "lowered_jaw"):
        now, without = found[name]["auto"], found[name]["off"]
        assert now["mouth"]["psnr"] >= without["mouth"]["psnr"]
        assert now["skin"]["psnr"] > without["skin"]["psnr"]


def frame(k: int) -> np.ndarray:
    """Frame `k` of the drawn face, with pores, and lips that open: RGB [1024, 1024, 3]."""
    face = draw_face(k / 4)
    cv2.ellipse(face, (256, 340), (22, 2 + 3 * k), 0, 0, 360, (90, 30, 30), -1, cv2.LINE_AA)
    large = cv2.resize(face, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
    pores = np.random.default_rng(0).normal(0, 5, large.shape[:2])
    return np.clip(large + pores[..., None], 0, 255).astype(np.uint8)
