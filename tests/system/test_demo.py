"""What comes with the package speaks."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from helpers.paths import DATA
from helpers.processes import EDGE, port_of
from helpers.service_client import Client, Viewer, until
from musetalk_distill.evaluate.decoded_stream import DecodedStream, decode_stream
from musetalk_distill.evaluate.lips import lip_correlation, lip_opening
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.demo import AVATAR, BUNDLE, FOLDER, SPEECH

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
    assert abs(found.lag) <= 1


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
