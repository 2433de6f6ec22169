"""What reads files and sockets, given what is nearly right: whatever comes, there is a result or one of our errors.

Used by test_fuzz.py for a moment, and by scripts/faults/fuzz for as long as one likes.
"""

import copy
import json
import os
import random
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from helpers.media_samples import AUDIO, audio_samples, picture_samples
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.decode.opus import OpusDecoder
from musetalk_runtime.audio.live import LivePcm
from musetalk_runtime.audio.speech import SpeechFrames
from musetalk_runtime.core.errors import MuseTalkEdgeError
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.frame_rate import auto_rate
from musetalk_runtime.prepare.source.video import VideoSource
from musetalk_runtime.service.session.clip import MAX_CLIP_SECONDS, decode_clip
from musetalk_runtime.storage.folder import MANIFEST, sha256

Edit = tuple[float, str, bytes]  # where, what, with
Change = tuple[int, Any]

GONE = "\0gone"  # in the place of a value: the key goes with it

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1 << 31, 1 << 63, 10**40, 1e308, 1e-308, float("nan"), float("inf"), -0.0]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["25/1", "1/0", "../x", "/etc/passwd", "manifest.json", "1e999", "0x10", GONE, "a" * 5000]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
edits = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["put", "insert", "cut", "end", "swap"]), st.binary(max_size=12)),
    min_size=1,
    max_size=6,
)
changes = st.lists(st.tuples(st.integers(0, 200), values), min_size=1, max_size=4)
chunks = st.lists(
    st.tuples(st.sampled_from([b"fmt ", b"data", b"LIST", b"fact", b"JUNK", b"\0\0\0\0"]), st.binary(max_size=64),
              st.none() | st.none() | st.integers(0, 0xFFFFFFFF)),
    max_size=5,
)  # fmt: skip
formats = st.tuples(
    st.sampled_from([1, 1, 1, 1, 3, 3, 6, 7, 0, 2, 17, 0x55, 0xFFFE]),
    st.sampled_from([1, 1, 1, 2, 2, 6, 0, 255, 65535]),
    st.sampled_from([16000, 16000, 8000, 44100, 192000, 1, 7, 0, 0x7FFFFFFF, 0xFFFFFFFF]),
    st.sampled_from([16, 16, 8, 24, 32, 64, 0, 1, 65535]),
    st.binary(max_size=2000),
)


class Readers:
    """Real things to spoil, and a folder to do it in."""

    def __init__(self, work: Path, bundle: Path, avatar: Path, voice: Path, ogg: bytes) -> None:
        self.work, self.bundle, self.avatar, self.voice, self.ogg = work, bundle, avatar, voice, ogg
        self.outcomes: Counter[str] = Counter()  # read, or refused
        self._opened = Bundle.open(bundle)
        self._audio, self._pictures = audio_samples(), picture_samples()

    def manifest(self, kind: int, changed: list[Change], edited: list[Edit]) -> None:
        """A manifest with other values, or bytes, in it; the files are as they were."""
        source = (self.bundle, self.avatar)[kind]
        folder = self._copy(source, link=True)
        tree = json.loads((source / MANIFEST).read_text())
        for place, value in changed:
            _change(tree, place, value)
        text = json.dumps(tree).encode("utf-8", "surrogatepass")
        (folder / MANIFEST).unlink()
        (folder / MANIFEST).write_bytes(spoil(text, edited))
        self._use(folder, kind)

    def avatar_file(self, name: str, edited: list[Edit]) -> None:
        """A file of an avatar with other bytes, of which its manifest knows."""
        self._use(self._rewritten(self.avatar, name, edited), 1)

    def bundle_file(self, name: str, edited: list[Edit]) -> None:
        """The same of a bundle."""
        self._use(self._rewritten(self.bundle, name, edited), 0)

    def wav(self, form: tuple[int, int, int, int, bytes], extra: list[tuple[bytes, bytes, int | None]]) -> None:
        """A WAV whose header says what no header should."""
        tag, channels, rate, bits, samples = form
        align = channels * bits // 8
        content = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
        parts = [(b"fmt ", content, None), *extra, (b"data", samples, None)]
        body = b"".join(
            name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)
            for name, data, size in parts
        )
        self._hear(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body)

    def wav_bytes(self, edited: list[Edit]) -> None:
        """A WAV with other bytes in it."""
        self._hear(spoil(self.voice.read_bytes(), edited))

    def audio(self, name: str, edited: list[Edit], files: int) -> None:
        """A file of another kind of audio, or several joined, with other bytes in it."""
        self._hear(spoil(self._audio[name] * files, edited))

    def picture(self, name: str, edited: list[Edit]) -> None:
        """A photo or video with other bytes in it; for an odd number of them on a background."""
        file = self.work / f"spoilt.{name}"
        file.write_bytes(spoil(self._pictures[name], edited))
        with self._counted():
            background = (0, 255, 0) if len(edited) % 2 else None
            for rgb in islice(VideoSource(file, 1.0, background=background).frames(), 30):
                assert rgb.shape[2] == 3

    def pcm(self, pieces: list[bytes]) -> None:
        """Live PCM in whatever pieces: every whole sample is heard, in order, and there are frames for all of it."""
        whole = b"".join(pieces)
        samples = np.frombuffer(whole[: len(whole) // 2 * 2], "<i2")
        heard = [chunk.speech for chunk in LivePcm(pieces)]
        np.testing.assert_allclose(np.concatenate([[], *heard]), samples / 32768, atol=1e-6)
        spec, context = self._opened.spec, self._opened.live_context

        def encode(mel: Any, rows: slice) -> Any:
            return np.zeros((mel.shape[1] // 2, spec.audio_states, spec.audio_width), np.float32)[rows]

        if len(samples):
            frames = list(SpeechFrames(LivePcm(pieces), encode, spec, Fraction(25), context))
            assert len(frames) == -(-len(samples) * 25 // SAMPLE_RATE)
            assert np.isfinite([frame.weight for frame in frames]).all()
        self.outcomes["read"] += 1

    def opus(self, edited: list[Edit], cuts: list[int]) -> None:
        """An Ogg stream of Opus with other bytes, in pieces of other lengths."""
        data, decoder = spoil(self.ogg, edited), OpusDecoder("ogg")
        with self._counted():
            for size in [*cuts, len(data)]:
                piece, data = data[:size], data[size:]
                heard = decoder(piece)
                assert heard.sound.shape == (2, 3 * len(heard.speech))

    def _copy(self, source: Path, link: bool = False) -> Path:
        folder = self.work / "spoilt"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder, copy_function=os.link if link else shutil.copyfile)
        return folder

    def _rewritten(self, source: Path, name: str, edited: list[Edit]) -> Path:
        folder = self._copy(source)
        file = folder / name
        file.write_bytes(spoil(file.read_bytes(), edited))
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
        (folder / MANIFEST).write_text(json.dumps(manifest))
        return folder

    def _use(self, folder: Path, kind: int) -> None:
        with self._counted():
            if kind == 0:
                with Bundle.open(folder) as bundle, Avatar.open(self.avatar) as avatar:
                    auto_rate(bundle)
                    self._speak(bundle, avatar)
            else:
                with Avatar.open(folder) as avatar:
                    for index in range(min(len(avatar), 4)):
                        avatar.frame(index)
                    self._speak(self._opened, avatar)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except MuseTalkEdgeError:
            self.outcomes["refused"] += 1
        else:
            self.outcomes["read"] += 1

    def _speak(self, bundle: Bundle, avatar: Avatar) -> None:
        with Session(bundle, avatar, self.voice, 25) as session:
            for frame in session.frames():
                assert frame.nv12.shape == (avatar.height * 3 // 2, avatar.width)

    def _hear(self, data: bytes) -> None:
        file = self.work / "spoilt.wav"
        file.write_bytes(data)
        with self._counted():
            total = 0
            for chunk in AudioFile(file):
                total += len(chunk.speech)
                assert chunk.speech.dtype == np.float32
                if total > MAX_CLIP_SECONDS * SAMPLE_RATE:
                    break
            assert decode_clip(data).speech.seconds <= MAX_CLIP_SECONDS


def targets(readers: Readers) -> dict[str, tuple[Callable[..., None], dict[str, st.SearchStrategy[Any]]]]:
    """By name: what to call, and what with."""
    arrays = [file.name for file in readers.avatar.iterdir() if file.name != MANIFEST]
    graphs = [file.name for file in readers.bundle.iterdir() if file.name != MANIFEST]
    return {
        "manifest": (
            readers.manifest,
            {"kind": st.integers(0, 1), "changed": changes, "edited": st.just([]) | st.just([]) | edits},
        ),
        "avatar": (readers.avatar_file, {"name": st.sampled_from(sorted(arrays)), "edited": edits}),
        "bundle": (readers.bundle_file, {"name": st.sampled_from(sorted(graphs)), "edited": edits}),
        "wav": (readers.wav, {"form": formats, "extra": chunks}),
        "wav-bytes": (readers.wav_bytes, {"edited": edits}),
        "audio": (
            readers.audio,
            {"name": st.sampled_from(sorted(AUDIO)), "edited": edits, "files": st.sampled_from([1, 2, 3])},
        ),
        "picture": (readers.picture, {"name": st.sampled_from(sorted(picture_samples())), "edited": edits}),
        "pcm": (readers.pcm, {"pieces": st.lists(st.binary(max_size=3000), max_size=8)}),
        "opus": (readers.opus, {"edited": edits, "cuts": st.lists(st.integers(1, 2000), max_size=40)}),
    }


def spoil(data: bytes, edited: list[Edit]) -> bytes:
    """`data` with these edits; half of the places are near its beginning, where headers are."""
    spoilt = bytearray(data)
    for where, what, given in edited:
        at = int(len(spoilt) * (where * 2 - 1 if where >= 0.5 else where * 0.02))
        if what == "put":
            spoilt[at : at + len(given)] = given
        elif what == "insert":
            spoilt[at:at] = given
        elif what == "cut":
            del spoilt[at : at + len(given)]
        elif what == "end":
            del spoilt[at:]
        else:
            other = random.Random(at).randrange(len(spoilt) + 1)  # noqa: S311
            spoilt[at : at + 8], spoilt[other : other + 8] = spoilt[other : other + 8], spoilt[at : at + 8]
    return bytes(spoilt)


def _change(tree: Any, place: int, value: Any) -> None:
    """Set what is at one of the places of a JSON value, counted through all of it."""
    found: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            found.append((node, key))
            walk(node[key])

    walk(tree)
    if found:
        node, key = found[place % len(found)]
        if value == GONE:
            del node[key]
        else:
            node[key] = copy.deepcopy(value)
