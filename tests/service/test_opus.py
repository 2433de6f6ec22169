"""Opus, alone and over the audio socket."""

import io
from contextlib import suppress
from typing import Any

import av
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from helpers.media import voice
from helpers.service_client import Client, until
from musetalk_runtime.audio.decode.opus import MAX_PIECE_SECONDS, OpusDecoder
from musetalk_runtime.audio.speech_piece import SpeechPiece, joined
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.service.service import Service

SPOKEN = voice(3.0)
DELAY = 104  # samples at 16 kHz: what an encoder looks ahead


@pytest.fixture(scope="module")
def ogg() -> bytes:
    return encoded(SPOKEN)


@pytest.fixture(scope="module")
def packets(ogg: bytes) -> list[bytes]:
    with av.open(io.BytesIO(ogg)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def encoded(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as target:
        stream: Any = target.add_stream("libopus", rate=48_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return file.getvalue()


def likeness(pieces: list[SpeechPiece]) -> float:
    """The correlation with what was spoken."""
    heard = joined(pieces).speech[DELAY:]
    length = min(len(heard), len(SPOKEN))
    assert length > 47_000
    return float(np.corrcoef(heard[:length], SPOKEN[:length])[0, 1])


@pytest.mark.parametrize("size", [1, 700, 1 << 20])
def test_an_ogg_stream_is_decoded_however_it_is_cut(ogg: bytes, size: int) -> None:
    decode = OpusDecoder("ogg")
    assert likeness([decode(ogg[at : at + size]) for at in range(0, len(ogg), size)]) > 0.99


def test_packets_are_decoded_one_by_one(packets: list[bytes]) -> None:
    decode = OpusDecoder("opus")
    pieces = [decode(packet) for packet in packets]
    assert likeness(pieces) > 0.99
    assert all(len(piece.speech) == 320 for piece in pieces[2:-2])  # 20 ms each


def test_what_is_no_opus_is_refused(ogg: bytes, packets: list[bytes]) -> None:
    other = bytearray(ogg)
    second = ogg.index(b"OggS", 4)
    other[second + 14] ^= 1  # the number of the stream
    for data, message in {
        b"RIFF": "no Ogg stream",
        ogg.replace(b"OpusHead", b"OpusHave"): "without OpusHead",
        ogg[:second] + ogg[:second]: "without OpusTags",
        bytes(other): "more than one stream",
        ogg + b"garbage": "no Ogg stream",
    }.items():
        with pytest.raises(InvalidMedia, match=message):
            OpusDecoder("ogg")(data)
    for packet in (b"", b"\xff", b"\x03\xff\xff"):
        with pytest.raises(InvalidMedia, match="Opus packet"):
            OpusDecoder("opus")(packet)
    with pytest.raises(InvalidMedia, match=f"more than {MAX_PIECE_SECONDS:g} s"):
        OpusDecoder("ogg")(encoded(np.zeros(200_000, np.int16)))
    assert OpusDecoder("opus")(packets[0]).seconds > 0


def test_nothing_that_is_flipped_makes_it_fail_in_another_way(ogg: bytes) -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(ogg[:6000])
        for at in random.integers(0, len(data), 5):
            data[at] ^= int(random.integers(1, 256))
        with suppress(InvalidMedia):
            OpusDecoder("ogg")(bytes(data))
        with suppress(InvalidMedia):
            OpusDecoder("opus")(random.bytes(200))


def test_the_audio_socket_takes_opus_and_closes_on_garbage(
    client: Client, service: Service, ogg: bytes, packets: list[bytes]
) -> None:
    path = client.begin()
    session = service.sessions.running[0]
    url = f"ws://127.0.0.1:{client.port}{path}/audio"
    said: list[SpeechPiece] = []
    push = session.speech.push
    session.speech.push = lambda piece, *limit: (place := push(piece, *limit)) and (said.append(piece) or place)
    for codec, pieces in {"opus": packets, "ogg": [ogg[at : at + 500] for at in range(0, len(ogg), 500)]}.items():
        said.clear()
        with connect(f"{url}?codec={codec}") as audio:
            for piece in pieces:
                audio.send(piece)
            until(lambda: joined(said).seconds > 2.96, "all is heard")
        assert likeness(said) > 0.99
        until(lambda: not session.has_audio_socket, "the socket is free")
    for codec, garbage in [("ogg", b"garbage"), ("opus", b"\xff"), ("opus", b""), ("ogg", "text")]:
        with connect(f"{url}?codec={codec}") as audio:
            audio.send(garbage)
            with pytest.raises(ConnectionClosed) as closed:
                audio.recv(timeout=60)
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1003
        until(lambda: not session.has_audio_socket, "the socket is free")
    assert session.running
    client.ask("DELETE", path)
