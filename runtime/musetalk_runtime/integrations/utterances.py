"""The utterances of a conversation, by when in the stream they begin and end."""

import threading
from collections import deque
from dataclasses import dataclass


@dataclass
class Utterance:
    """From when to when, in seconds of the stream; more of it may come until it is ``whole``."""

    begin: float
    end: float
    whole: bool = False


class Utterances:
    """What is to be said and was not played yet, as utterances. Safe from any thread.

    Attributes: ``position``, the stream's second up to which playback has come.
    """

    def __init__(self) -> None:
        self.position = 0.0
        self._waiting: deque[Utterance] = deque()
        self._lock = threading.Lock()

    def add(self, begin: float, end: float) -> None:
        """From `begin` to `end` is a part of the utterance that is not whole, or of a new one."""
        with self._lock:
            if self._waiting and not self._waiting[-1].whole:
                self._waiting[-1].end = end
            else:
                self._waiting.append(Utterance(begin, end))

    def finish(self) -> None:
        """The utterance is whole."""
        with self._lock:
            if self._waiting:
                self._waiting[-1].whole = True

    def drop(self) -> float:
        """Forget all; gives how many seconds of the first were played."""
        with self._lock:
            played = self.position - self._waiting[0].begin if self._waiting else 0.0
            self._waiting.clear()
            return max(0.0, played)

    def play(self, begin: float, end: float) -> tuple[bool, int]:
        """Playback goes on from the stream's second `begin` to `end`.

        Gives whether speech is heard there, and how many utterances are over then.
        """
        with self._lock:
            self.position = end
            speaking, over = False, 0
            for utterance in self._waiting:
                speaking = speaking or (utterance.begin < end and utterance.end > begin)
            while self._waiting and self._waiting[0].whole and self._waiting[0].end <= end:
                self._waiting.popleft()
                over += 1
            return speaking, over

    @property
    def end(self) -> float:
        """The second at which the last of those that wait ends; 0 where none does."""
        with self._lock:
            return self._waiting[-1].end if self._waiting else 0.0

    @property
    def waiting(self) -> bool:
        """Whether there is one that has not been played to its end."""
        return bool(self._waiting)
