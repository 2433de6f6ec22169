"""How far a session is made ahead of its playback."""

from fractions import Fraction

from musetalk_runtime.service.session.audience import Audience
from musetalk_runtime.service.session.pace import Pace
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.session.speech_queue import LOOKAHEAD_S, SpeechQueue

SLACK_S = 0.1  # seconds that frames may come late in a session without a lead, before its clock waits
SPARE_S = 0.02  # seconds more than a frame lasts, in which such a session makes it


class Lead:
    """Keeps `speech` as far ahead of `clock` as who watches needs: `seconds`, or nothing (``live``).

    There is none while all watch live, as by WebRTC, and none in a session of 0 `seconds` while anybody does. All
    others need one.
    """

    def __init__(self, seconds: float, fps: Fraction, speech: SpeechQueue, clock: PlaybackClock, pace: Pace) -> None:
        self.seconds = seconds
        self.live = False
        self._fps, self._speech, self._clock, self._pace = fps, speech, clock, pace
        self._seen = False  # whether a frame has been encoded

    def follow(self, audience: Audience) -> None:
        """Be so far ahead as `audience` needs now."""
        others = audience.viewers - audience.live
        self.live = not others or audience.live > 0 if self.seconds == 0 else audience.live > 0 and not others
        self._pace.slack = SLACK_S if self.live else 0.0
        if self.live:
            self._speech.keep(0, live_lead(self._fps))
            self._start()  # no more may come before the clock runs, and so no fragment, which starts it elsewhere
        else:
            idle = idle_lead(self._fps)
            self._speech.keep(self.seconds or idle, idle)

    def encoded(self) -> None:
        """A frame has been encoded: who watches live sees it now. For the session's thread."""
        self._seen = True
        self._start()

    def _start(self) -> None:
        if self._seen and self.live:
            self._clock.start()


def live_lead(fps: Fraction) -> float:
    """Seconds of sound to hand out ahead of playback without a lead: what a frame is generated from, and what it takes.

    A machine that holds `fps` makes a frame in the time that one lasts. All of this is heard and seen as latency.
    """
    return LOOKAHEAD_S + float(1 / fps) + SPARE_S


def idle_lead(fps: Fraction) -> float:
    """Seconds of silence to hand out ahead of playback: what the chain holds back, and a little for the network.

    It holds back 120 ms of sound, up to three frames in the encoder and a fragment of two. What is ahead falls by a
    piece of silence until the next one is handed out.
    """
    return 0.35 + float(5 / fps)
