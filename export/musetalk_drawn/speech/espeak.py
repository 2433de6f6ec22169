"""Speech synthesis by eSpeak NG's C library: sound, and the times of the phonemes."""

import _ctypes
import ctypes
import ctypes.util
import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.errors import InvalidArgument, MachineError

SYNCHRONOUS, PHONEME_EVENTS, DONT_EXIT = 2, 1, 0x8000  # espeak_AUDIO_OUTPUT and espeakINITIALIZE_*
PHONEME_EVENT = 7
UTF8, CHARACTERS = 1, 1
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER
MISSING = "eSpeak NG is missing, which speaks the training texts: pip install espeakng-loader"

_LOCK = threading.Lock()  # the library has one voice a process


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Voice:
    """A voice of eSpeak NG: ``name`` such as en-us+f2, words a minute, pitch and its range, 0 to 99."""

    name: str = "en-us+f2"
    speed: int = 165
    pitch: int = 50
    range: int = 50


@dataclass(frozen=True)
class Utterance:
    """What was spoken: ``samples`` int16 at ``rate`` Hz; ``phonemes`` are seconds and eSpeak's names, in order."""

    samples: npt.NDArray[np.int16]
    rate: int
    phonemes: list[tuple[float, str]]


def speak(text: str, voice: Voice) -> Utterance:
    """Speak `text`; the same for the same arguments. Raises MachineError without eSpeak NG, InvalidArgument."""
    with _LOCK:
        library, data = _library()
        rate = library.espeak_Initialize(SYNCHRONOUS, 0, data, PHONEME_EVENTS | DONT_EXIT)
        if rate <= 0:
            raise MachineError(
                f"eSpeak NG does not start (it answers {rate}): pip install --force-reinstall espeakng-loader"
            )
        try:
            return _speak(library, rate, text, voice)
        finally:
            library.espeak_Terminate()
            _ctypes.dlclose(library._handle)  # else what it spoke before would colour what it speaks next


def _speak(library: Any, rate: int, text: str, voice: Voice) -> Utterance:
    sound: list[bytes] = []
    phonemes: list[tuple[float, str]] = []

    def collect(wav: Any, count: int, events: Any) -> int:
        if count > 0:
            sound.append(ctypes.string_at(wav, 2 * count))
        k = 0
        while events[k].type:
            if events[k].type == PHONEME_EVENT:
                phonemes.append((events[k].audio_position / 1000, events[k].id.string.decode("utf-8", "replace")))
            k += 1
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.name.encode()):
        raise InvalidArgument(f"eSpeak NG has no voice {voice.name!r}")
    for parameter, value in ((RATE, voice.speed), (PITCH, voice.pitch), (RANGE, voice.range)):
        library.espeak_SetParameter(parameter, value, 0)
    _same_noise(library)
    raw = text.encode()
    if library.espeak_Synth(raw, len(raw) + 1, 0, CHARACTERS, 0, UTF8, None, None):
        raise InvalidArgument(f"eSpeak NG cannot speak {text!r}")
    return Utterance(np.frombuffer(b"".join(sound), np.int16), rate, phonemes)


def _same_noise(library: Any) -> None:
    """Breath is noise: begin it anew."""
    try:
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    except AttributeError:  # before 1.52
        ctypes.CDLL(None).srand(1)


def _library() -> tuple[Any, bytes | None]:
    """The library, and where its data is: the package's own, or the system's."""
    try:
        loader = import_module("espeakng_loader")
        return ctypes.CDLL(loader.get_library_path()), loader.get_data_path().encode()
    except (ImportError, OSError, RuntimeError):
        name = ctypes.util.find_library("espeak-ng")
    try:
        if name:
            return ctypes.CDLL(name), None
    except OSError:
        pass
    raise MachineError(MISSING)
