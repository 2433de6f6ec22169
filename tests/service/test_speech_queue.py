"""What a live session hears, and when."""

import threading
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from musetalk_runtime.audio.chunk import AudioChunk
from musetalk_runtime.audio.speech_piece import SpeechPiece
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.session.speech_queue import MOUTH_FADE_S, SpeechQueue


class Stopped(PlaybackClock):
    """A clock that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def jump(self, seconds: float) -> None:
        self.at = max(self.at, seconds)


def take(speech: SpeechQueue, seconds: float) -> np.ndarray:
    """What is handed out, up to `seconds` of the stream; ends the iteration."""
    chunks = list(_until(speech, seconds))
    heard = np.concatenate([chunk.speech for chunk in chunks])
    sound = np.concatenate([chunk.sound for chunk in chunks], axis=1)
    assert sound.shape == (2, 3 * len(heard))
    assert np.abs(sound[0, ::3] - heard).max() < 1e-3
    assert np.abs(sound[1] + sound[0]).max() < 1e-4
    return np.rint(heard * 32768).astype(int)


def _until(speech: SpeechQueue, seconds: float) -> Iterator[AudioChunk]:
    for chunk in speech:
        yield chunk
        if speech.handed_out >= seconds - 1e-6:
            return


def tone(seconds: float) -> SpeechPiece:
    """Constant, and its sound the opposite in the second channel."""
    speech = np.full(round(seconds * 16_000), 1000, np.int16)
    return SpeechPiece(speech, np.stack([np.repeat(speech, 3), -np.repeat(speech, 3)]))


def blocked(speech: SpeechQueue) -> bool:
    """Whether the next is not handed out within 50 ms."""
    got = threading.Event()
    thread = threading.Thread(target=lambda: [got.set() for _ in islice(speech, 1)], daemon=True)
    thread.start()
    waits = not got.wait(0.05)
    speech.interrupt()
    thread.join()
    return waits


def test_silence_is_fed_for_a_little_and_speech_for_the_lead() -> None:
    silent, spoken = SpeechQueue(Stopped(), 2.0, 0.5), SpeechQueue(Stopped(), 2.0, 0.5)
    assert not take(silent, 0.5).any()
    assert blocked(silent)
    assert spoken.push(tone(10))
    assert (take(spoken, 2.0) == 1000).all()
    assert spoken.queued == 8.0
    assert blocked(spoken)


def test_speech_follows_silence_and_silence_speech() -> None:
    clock = Stopped()
    speech = SpeechQueue(clock, 2.0, 0.5)
    take(speech, 0.5)
    speech.push(tone(0.3))
    clock.at = 3.0
    heard = take(speech, 1.0)
    assert np.flatnonzero(heard).tolist() == list(range(4800))


@pytest.mark.parametrize(("lead", "pieces"), [(4.0, 0.4), (2.0, 0.4), (1.0, 0.25), (0.5, 0.125), (0.0, 0.02)])
def test_speech_is_handed_out_in_few_pieces_whose_frames_can_be_made_in_time(lead: float, pieces: float) -> None:
    clock = Stopped()
    speech = SpeechQueue(clock, lead, 0.5)
    speech.push(tone(10))
    clock.at = 5.0
    assert {len(chunk.speech) / 16_000 for chunk in _until(speech, 1.0)} == {pieces}


def test_silence_is_handed_out_in_few_pieces() -> None:
    """First all that may be, then whenever a piece is missing: a small one while more speech may come."""
    clock = Stopped()
    speech = SpeechQueue(clock, 2.0, 0.5)
    pieces: list[float] = []
    for clock.at in (0.0, 0.2, 0.5):
        pieces += [len(chunk.speech) / 16_000 for chunk in _until(speech, clock.at + 0.5)]
    assert pieces == [0.5, 0.2, 0.3]
    speech.push(tone(0.1))
    clock.at = 0.96  # all was handed out up to 1.1, and 0.25 may be ahead
    assert [len(chunk.speech) / 16_000 for chunk in _until(speech, 1.2)] == [0.1, 0.1]


@pytest.mark.parametrize(("queued", "waited"), [(1.0, 0.4), (0.0, 0.2)])
def test_who_waits_for_playback_is_woken_once(queued: float, waited: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In forty sessions each wake takes the interpreter's lock from the others."""
    now = 100.0
    clock = PlaybackClock(lambda: now)
    clock.start()
    speech = SpeechQueue(clock, 1.6, 0.5)
    if queued:
        speech.push(tone(1.6 + queued))
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        nonlocal now
        waits.append(round(seconds, 6))
        now += seconds
        return False

    monkeypatch.setattr(speech._changed, "wait", wait)
    ahead = 1.6 if queued else 0.5
    assert len(list(_until(speech, ahead + waited))) == (5 if queued else 2)
    assert waits == [waited]


def test_a_push_beyond_the_limit_says_nothing() -> None:
    speech = SpeechQueue(Stopped(), 2.0, 0.5)
    assert speech.push(tone(1.0), limit=1.5)
    assert not speech.push(tone(1.0), limit=1.5)
    assert speech.queued == 1.0


def test_a_push_tells_where_it_is_said_and_what_waits_before_it() -> None:
    speech = SpeechQueue(Stopped(), 2.0, 0.5)
    take(speech, 0.5)
    assert speech.push(tone(1.0)) == (0.5, 0.0)
    assert speech.push(tone(1.0)) == (1.5, 1.0)


def test_a_cut_drops_what_waits_and_closes_the_mouth_until_speech_comes_back() -> None:
    clock = Stopped()
    speech = SpeechQueue(clock, 2.0, 0.5)
    speech.push(tone(10))
    take(speech, 2.0)
    assert speech.mouth(1.9) == 1.0
    assert speech.mouth(1.5) == 1.0
    at, end = speech.cut(1.6)
    assert (at, end) == (1.6 + MOUTH_FADE_S, 2.02)
    assert clock.now() == at
    assert not speech.speaking or speech.queued <= 0.02
    assert [speech.mouth(t) for t in (1.6, at, 2.5, 9.0)] == [1, 0, 0, 0]
    clock.at = 2.1
    heard = take(speech, 2.5)
    assert 0 < heard[0] <= 1000
    assert not heard[320:].any()
    speech.push(tone(1.0))
    again = speech.handed_out
    take(speech, again + 0.5)
    assert speech.mouth(again - 0.13) == 0.0
    assert speech.mouth(again) == 1.0
    assert speech.mouth(again + 5) == 1.0


def test_a_clock_stands_still_while_playback_waits_and_jumps_ahead_only() -> None:
    at = [100.0]
    clock = PlaybackClock(lambda: at[0])
    assert (clock.now(), clock.wait(0.0), clock.running) == (0.0, 0.0, False)
    clock.start()
    at[0] += 0.5
    clock.start()
    assert clock.now() == 0.5
    clock.jump(5.0)
    at[0] += 0.25
    assert clock.now() == 5.25
    assert clock.wait(3.0) == 2.25
    assert clock.now() == 3.0
    assert clock.wait(9.0) == 0.0
    clock.jump(1.0)
    at[0] += 0.5
    assert clock.now() == 3.5


def test_an_interrupted_feeder_ends() -> None:
    speech = SpeechQueue(PlaybackClock(), 2.0, 0.5)
    thread = threading.Thread(target=lambda: list(speech))
    thread.start()
    speech.interrupt()
    thread.join(60)
    assert not thread.is_alive()
