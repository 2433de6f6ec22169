"""What comes with the package speaks."""

import json
import subprocess
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from helpers.media import write_video, write_wav
from helpers.paths import DATA
from helpers.processes import EDGE, port_of
from helpers.service_client import Client, Viewer, until
from musetalk_distill.evaluate.decoded_stream import DecodedStream, decode_stream
from musetalk_distill.evaluate.lips import lip_correlation, lip_opening
from musetalk_runtime import Avatar, Bundle, Frame, Session
from musetalk_runtime.avatar.pose_player import PosePlayer
from musetalk_runtime.demo import AVATAR, BUNDLE, FOLDER, SPEECH
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.session_hooks import SessionHooks

TRUTH = DATA / "demo-speech.json"
CLOSED = 0.01  # faces: what is left between lips that touch
PAUSE = 6  # frames that a mouth has to close in, and to open


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.array(json.loads(TRUTH.read_text())["opening"])


@pytest.fixture(scope="module")
def streamed(demo_talk: Path) -> DecodedStream:
    """What the shortest command makes."""
    with Bundle.open(BUNDLE) as bundle, Avatar.open(AVATAR) as avatar:
        return decode_stream((demo_talk / "talk.mp4").read_bytes(), avatar, bundle.spec.image_size)


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 25_000_000


def test_the_lips_follow_what_is_said(streamed: DecodedStream, truth: np.ndarray) -> None:
    measured = lip_opening(streamed.faces)
    assert abs(len(measured) - len(truth)) <= 1
    length = min(len(measured), len(truth))
    found = lip_correlation([(measured[:length], truth[:length])])
    assert found is not None
    assert found.correlation >= 0.85
    assert found.best_lag == 0


@pytest.mark.slow
def test_the_lips_follow_as_well_while_poses_change(streamed: DecodedStream, truth: np.ndarray, tmp_path: Path) -> None:
    """The person leans to the side or back with every second, for five of them."""
    with Bundle.open(BUNDLE) as bundle, Avatar.open(AVATAR) as avatar:
        frames = [Frame(0, Fraction(0), avatar.frame(k), np.empty((1, 0))).rgb() for k in range(40)]
        write_video(tmp_path / "idle.mp4", frames[:20])
        write_video(tmp_path / "lean.mp4", [(np.roll(rgb, 6, axis=1) * 0.9).astype(np.uint8) for rgb in frames[20:]])
        clips = {name: tmp_path / f"{name}.mp4" for name in ("idle", "lean")}
        options = PrepareOptions(face_box=tuple(avatar.boxes[0].tolist()))
        prepare_avatar(clips, bundle, tmp_path / "avatar", options)
    with wave.open(str(SPEECH)) as file:
        write_wav(tmp_path / "speech.wav", np.frombuffer(file.readframes(5 * 16_000), "<i2"))
    switches: list[str] = []
    with Bundle.open(BUNDLE) as bundle, Avatar.open(tmp_path / "avatar") as avatar:
        player = PosePlayer(avatar, Fraction(25), lambda pose, _: switches.append(pose))
        for second in range(5):
            player.ask(("lean", "idle")[second % 2], repeat=True, at=second)
        with Session(bundle, avatar, tmp_path / "speech.wav", 25, SessionHooks(poses=player)) as session:
            switching = decode_stream(b"".join(session.stream()), avatar, bundle.spec.image_size)
    assert switches == ["lean", "idle", "lean", "idle", "lean"]
    plain, found = (lip_correlation([(lip_opening(one.faces[:125]), truth[:125])]) for one in (streamed, switching))
    assert plain is not None
    assert found is not None
    assert found.correlation >= plain.correlation - 0.03
    assert found.best_lag == 0


def test_in_silence_the_mouth_is_closed(streamed: DecodedStream) -> None:
    measured, silent = lip_opening(streamed.faces), streamed.loudness < 1e-4
    still = np.convolve(silent, np.ones(2 * PAUSE + 1), mode="valid") == 2 * PAUSE + 1
    assert still.any()
    assert measured[PAUSE:-PAUSE][still].max() <= CLOSED < measured.max() / 4


def test_a_service_without_options_has_the_demos_person() -> None:
    command = [*EDGE, "serve", "--port", "0", "--sessions", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        try:
            client = Client(port_of(service))
            status, session = client.ask("POST", "/v1/sessions/audio?avatar=demo", SPEECH.read_bytes())
            assert status == 201
            viewer = Viewer(client, f"/v1/sessions/{session['id']}")
            until(lambda: len(viewer.data) > 100_000, "she speaks")
        finally:
            service.kill()
    viewer.join(60)
