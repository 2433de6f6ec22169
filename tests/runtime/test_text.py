"""Text as speech: its sentences, the interface of engines, and ``stream --text``."""

import asyncio
import os
import subprocess
import sys
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.media import tone_hertz
from helpers.paths import ROOT
from helpers.processes import EDGE
from helpers.tone_engine import HERTZ, NAME, SECONDS_A_CHARACTER, ToneEngine
from musetalk_runtime import Avatar, Bundle, InvalidArgument, MachineError, MuseTalkEdgeError, Session, TextAudio
from musetalk_runtime.demo import AVATAR, BUNDLE
from musetalk_runtime.tts.process import SynthesizerProcess
from musetalk_runtime.tts.sentences import MAX_SENTENCE_CHARACTERS, sentences
from musetalk_runtime.tts.synthesizer import NEEDS_HIBARI, mono, open_synthesizer

needs_hibari = pytest.mark.skipif(find_spec("hibari") is None, reason="hibari-tts is not installed: the extra say")


@pytest.fixture(autouse=True)
def _engine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the tests' engine too."""
    paths = [str(ROOT / "tests"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there. How are you?  I'm fine!", ["Hello there.", "How are you?", "I'm fine!"]),
        ("Dr. Smith met J. K. Rowling. It cost 3.5 dollars.", ["Dr. Smith met J. K. Rowling.", "It cost 3.5 dollars."]),
        ('He said "stop." Then he left... and so on.', ['He said "stop."', "Then he left... and so on."]),
        ("One line\nand\n\nanother", ["One line", "and", "another"]),
        ("\u4f60\u597d\u3002\u518d\u89c1\uff01", ["\u4f60\u597d\u3002", "\u518d\u89c1\uff01"]),
        ("a \x07bell, a \ud800surrogate and \u202e nothing else", ["a bell, a surrogate and nothing else"]),
        ("... !? \U0001f600", []),
        ("", []),
    ],
)
def test_text_is_split_into_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize("text", ["x" * 1000, "word " * 200, "a clause of some length that goes on, " * 30, ".a" * 700])
def test_no_sentence_is_too_long_and_none_loses_a_letter(text: str) -> None:
    found = sentences(text)
    assert max(map(len, found)) <= MAX_SENTENCE_CHARACTERS
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    if "clause" in text:
        assert all(part.endswith(",") for part in found)


def test_samples_of_any_form_become_mono_floats() -> None:
    assert mono(np.array([0, -32768, 16384], np.int16)).tolist() == [0, -1, 0.5]
    assert mono(np.array([np.nan, np.inf, -2.0, 0.25])).tolist() == [0, 1, -1, 0.25]
    for wrong in (np.zeros((2, 8), np.float32), np.zeros(4, np.uint8), "text"):
        with pytest.raises(InvalidArgument, match="expected float32 or int16"):
            mono(wrong)


def test_a_session_says_text_by_an_engine_of_ones_own(bundle: Path, avatar: Path) -> None:
    text = "This is the first sentence. And a second one."
    with (
        Bundle.open(bundle) as b,
        Avatar.open(avatar) as a,
        Session(b, a, TextAudio(text, ToneEngine()), fps=25) as session,
    ):
        sound = np.concatenate([frame.sound for frame in session.frames()], axis=1)[0]
    spoken = sum(map(len, sentences(text))) * SECONDS_A_CHARACTER
    assert len(sound) / 48_000 == pytest.approx(spoken, abs=0.02)
    assert tone_hertz(sound, 48_000) == pytest.approx(HERTZ, abs=3)


def test_what_is_no_text_or_no_engine_is_refused_in_one_line() -> None:
    with pytest.raises(InvalidArgument, match="nothing to say"):
        TextAudio("...", ToneEngine())
    for name in ("espeak", "no.such.module:Engine", f"{NAME}s", "helpers.tone_engine:not_callable", "os:getcwd"):
        with pytest.raises(InvalidArgument):
            open_synthesizer(name)
    with pytest.raises(InvalidArgument, match="sample_rate"):
        TextAudio("Hello.", "no engine")  # type: ignore[arg-type]


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['hibari'] = None; sys.argv[0] = 'musetalk-edge'; "
    command = [sys.executable, "-c", hidden + EDGE[-1], "stream", "--text", "Hello.", "-o", str(tmp_path / "out.mp4")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, f"musetalk-edge: error: {NEEDS_HIBARI}\n")
    assert list(tmp_path.iterdir()) == []


def test_stream_says_text_by_an_engine_that_is_named(bundle: Path, avatar: Path, tmp_path: Path) -> None:
    files = ["-b", bundle, "-a", avatar, "-o", tmp_path / "talk.mp4", "--fps", "25"]
    text = "Hello, this is a test."
    subprocess.run([*EDGE, "stream", *files, "--text", text, "--tts", NAME], check=True)
    with av.open(str(tmp_path / "talk.mp4")) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == pytest.approx(len(text) * SECONDS_A_CHARACTER * 25, abs=1)
    both = subprocess.run([*EDGE, "stream", *files, "--text", text, "--audio", "a.wav"], capture_output=True, text=True)
    assert both.returncode == 2
    assert "not allowed with" in both.stderr


@needs_hibari
def test_hibari_speaks_and_the_mouth_moves_with_it() -> None:
    """The demo's mouth differs from the resting one where the sound is loud."""
    text = "Hello. I say what you write, and my mouth moves as I speak. Is that not nice?"
    loudness, mouth = [], []
    with Bundle.open(BUNDLE) as b, Avatar.open(AVATAR) as a, Session(b, a, TextAudio(text), fps=25) as session:
        sounds = []
        for frame in session.frames():
            index = a.index_at(frame.index, session.fps)
            x0, y0, x1, y1 = a.boxes[index]
            lips = slice((y0 + y1) // 2, y1), slice(x0, x1)
            mouth.append(np.abs(frame.nv12[lips].astype(float) - a.frame(index)[lips]).mean())
            sounds.append(frame.sound[0])
    sound = np.concatenate(sounds)
    loudness = [float(part.std()) for part in np.array_split(sound, np.arange(1920, len(sound), 1920))][: len(mouth)]
    alike = [np.corrcoef(mouth[lag : len(mouth)], loudness[: len(mouth) - lag])[0, 1] for lag in range(3)]
    assert len(mouth) > 100
    assert max(alike) > 0.4
    silent = np.array(loudness) < 0.02
    assert np.array(mouth)[~silent].mean() > 1.3 * np.array(mouth)[silent].mean()


@needs_hibari
def test_a_number_that_hibari_cannot_read_is_told() -> None:
    with pytest.raises(InvalidArgument, match="cannot be pronounced"):
        list(open_synthesizer().synthesize("1" * 60))


async def _spoken(process: SynthesizerProcess, sentence: str) -> float:
    """Seconds of speech."""
    async with aclosing(process.synthesize(sentence)) as pieces:
        return sum([len(samples) / rate async for samples, rate in pieces])


def test_a_process_that_hangs_or_dies_is_ended_and_the_next_sentence_gets_another() -> None:
    async def run() -> None:
        process = SynthesizerProcess(NAME, timeout=5.0)
        hanging = SynthesizerProcess(NAME, timeout=0.3)
        try:
            assert await _spoken(process, "Hello there.") == pytest.approx(0.6, abs=0.001)
            with pytest.raises(MuseTalkEdgeError, match="no such word"):
                await _spoken(process, "I refuse.")
            with pytest.raises(MuseTalkEdgeError, match="expected float32"):
                await _spoken(process, "It is nonsense.")
            with pytest.raises(MachineError, match="broke down"):
                await _spoken(process, "Now die.")
            assert await _spoken(process, "Hello again.") == pytest.approx(0.6, abs=0.001)
            with pytest.raises(MachineError, match="too long"):
                await _spoken(hanging, "You hang.")
            with pytest.raises(InvalidArgument, match="nothing of that name"):
                open_synthesizer(f"{NAME}s")
            with pytest.raises(MachineError, match="nothing of that name"):
                await _spoken(SynthesizerProcess(f"{NAME}s"), "Hello.")
        finally:
            await process.close()
            await hanging.close()

    asyncio.run(run())
