"""``musetalk-edge stream`` as a process: its output, its exit status, and how it ends."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from helpers.media import voice, write_wav
from helpers.processes import EDGE, starting_slowly
from helpers.service_client import until
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.audio.decode.signature import media_format
from musetalk_runtime.audio.live import PipeReader
from musetalk_runtime.core.errors import InvalidMedia, OutputError
from musetalk_runtime.output import relay_process
from musetalk_runtime.storage.folder import MANIFEST

Speech = Callable[[float], Path]
Command = Callable[..., list[str]]
Start = Callable[..., "subprocess.Popen[bytes]"]
MINUTES = 10


@pytest.fixture
def command(bundle: Path, avatar: Path) -> Command:
    def make(audio: Path | str, output: Path | str, *options: str) -> list[str]:
        files = ["-b", str(bundle), "-a", str(avatar), "--audio", str(audio), "-o", str(output)]
        return [*EDGE, "stream", *files, "--fps", "25", *options]

    return make


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts a process; at the end of the test its pipes are closed, and it is killed if it still runs."""
    with ExitStack() as stack:

        def run(command: list[str], **pipes: int) -> "subprocess.Popen[bytes]":
            process = stack.enter_context(subprocess.Popen(command, **pipes))
            stack.callback(process.kill)
            return process

        yield run


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More speech than any machine says before a test ends it."""
    file = tmp_path_factory.mktemp("endless") / "speech.wav"
    write_wav(file, np.tile(voice(10.0), 6 * MINUTES))
    return file


def frames_in(file: Path | str) -> int:
    with av.open(str(file)) as container:
        return sum(1 for _ in container.decode(video=0))


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_file_appears_whole_with_its_report(command: Command, speech: Speech, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        command(speech(1.0), tmp_path / "talk.mp4", "--report", str(report)), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert frames_in(tmp_path / "talk.mp4") == 25
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.json", "talk.mp4"]
    figures = json.loads(report.read_text())
    assert figures["frames"] == 25
    assert figures["first_fragment_seconds"] > 0
    assert figures["peak_memory_mb"] > 10
    assert figures["stages"]["generate"].keys() == {"p50_ms", "p99_ms"}


def test_detail_can_be_left_out(command: Command, speech: Speech, tmp_path: Path) -> None:
    for detail in ("auto", "off"):
        subprocess.run(command(speech(1.0), tmp_path / f"{detail}.mp4", "--detail", detail), check=True)
    assert (tmp_path / "auto.mp4").read_bytes() != (tmp_path / "off.mp4").read_bytes()
    done = subprocess.run(command(speech(1.0), tmp_path / "talk.mp4", "--detail", "more"), capture_output=True)
    assert done.returncode == 2


@pytest.mark.slow
def test_live_speech_starts_before_it_ends(command: Command, start: Start, tmp_path: Path) -> None:
    pcm = voice(4.0).astype("<i2").tobytes()
    process = start(command("-", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(pcm[: 2 * 16_000])
    process.stdin.flush()
    head = b""
    while b"moof" not in head:
        head += process.stdout.read1(65536)  # a fragment is out, and most of the speech still to come
    process.stdin.write(pcm[2 * 16_000 :])
    process.stdin.close()
    (tmp_path / "live.mp4").write_bytes(head + process.stdout.read())
    assert process.wait() == 0
    assert frames_in(tmp_path / "live.mp4") == 100


def test_a_reader_that_has_enough_ends_it_as_a_pipe_does(command: Command, start: Start, speech: Speech) -> None:
    process = start(command(speech(20.0), "-"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    head = process.stdout.read(100_000)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == -signal.SIGPIPE
    assert (len(head), errors) == (100_000, b"")


@pytest.mark.slow
def test_a_stalled_reader_loses_nothing_and_costs_no_memory(
    command: Command, start: Start, speech: Speech, tmp_path: Path
) -> None:
    process = start(command(speech(4.0), "-"), stdout=subprocess.PIPE)
    assert process.stdout
    data = process.stdout.read(50_000)
    _wait_until_it_waits(process)
    resident, spent = _resident(process.pid), _processor_ticks(process.pid)
    time.sleep(2.0)
    assert _resident(process.pid) <= resident * 1.02
    assert _processor_ticks(process.pid) - spent <= 20  # of 100 a second: it looks now and then, and makes nothing
    (tmp_path / "talk.mp4").write_bytes(data + process.stdout.read())
    assert process.wait() == 0
    assert frames_in(tmp_path / "talk.mp4") == 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_a_playable_file(
    command: Command, start: Start, endless: Path, tmp_path: Path, number: signal.Signals
) -> None:
    heard = ["env", f"--default-signal={number.name[3:]}"]  # nohup may have started the tests
    process = start([*heard, *command(endless, tmp_path / "talk.mp4")], stderr=subprocess.PIPE)
    _wait_for_partial(tmp_path, 20_000)
    process.send_signal(number)
    assert process.wait(timeout=60) == -number
    assert process.stderr
    assert process.stderr.read() == b""
    assert [file.name for file in tmp_path.iterdir()] == ["talk.mp4"]
    assert 0 < frames_in(tmp_path / "talk.mp4") < MINUTES * 60 * 25


def test_a_signal_ends_it_though_the_reader_stalls(command: Command, start: Start, speech: Speech) -> None:
    process = start(command(speech(60.0), "-"), stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.read(10_000)
    _wait_until_it_waits(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == -signal.SIGTERM


def test_a_signal_ends_live_speech_that_waits(command: Command, start: Start, tmp_path: Path) -> None:
    process = start(command("-", tmp_path / "talk.mp4"), stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(voice(1.0).astype("<i2").tobytes())
    process.stdin.flush()
    _wait_for_partial(tmp_path, 1_000)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == -signal.SIGTERM
    assert frames_in(tmp_path / "talk.mp4") > 0


@pytest.mark.slow
def test_a_closed_terminal_is_nothing_to_what_nohup_started(command: Command, start: Start, tmp_path: Path) -> None:
    process = start(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command("-", tmp_path / "talk.mp4")], stdin=subprocess.PIPE
    )
    assert process.stdin
    process.stdin.write(voice(1.0).astype("<i2").tobytes())
    process.stdin.flush()
    _wait_for_partial(tmp_path, 1_000)
    process.send_signal(signal.SIGHUP)
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert frames_in(tmp_path / "talk.mp4") == 25


@pytest.mark.slow
def test_what_a_killed_process_left_is_swept_by_the_next(command: Command, speech: Speech, tmp_path: Path) -> None:
    abandoned, held = (tmp_path / f".talk.mp4.{name}.partial" for name in ("0badc0de", "11fe11fe"))
    for file in (abandoned, held):
        file.write_bytes(bytes(1000))
        os.utime(file, (1e9, 1e9))
    with held.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert subprocess.run(command(speech(1.0), tmp_path / "talk.mp4")).returncode == 0
    assert {file.name for file in tmp_path.iterdir()} == {"talk.mp4", held.name}


@pytest.mark.slow
def test_a_name_of_255_bytes_is_written(command: Command, speech: Speech, tmp_path: Path) -> None:
    name = "ü" * 125 + "x.mp4"
    assert len(os.fsencode(name)) == 255
    done = subprocess.run(command(speech(1.0), tmp_path / name), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("codec", "container", "format_name"),
    [
        ("pcm_s16le", "wav", "WAV"),
        ("libmp3lame", "mp3", "MP3"),
        ("libopus", "ogg", "Ogg"),
        ("flac", "flac", "FLAC"),
        ("aac", "mp4", "MP4"),
        ("aac", "adts", "AAC"),
        ("libopus", "webm", "Matroska"),
    ],
)
def test_a_file_that_comes_in_place_of_pcm_is_named(
    tmp_path: Path, codec: str, container: str, format_name: str
) -> None:
    with av.open(str(tmp_path / "speech"), "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(voice(1.0, 48_000)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        opened.mux([*stream.encode(frame), *stream.encode(None)])
    assert media_format(voice(1.0).astype("<i2").tobytes()) is None
    with (tmp_path / "speech").open("rb") as file, pytest.raises(InvalidMedia, match=f"a {format_name} file, and no"):
        next(iter(PipeReader(file.fileno())))


@pytest.mark.slow
def test_a_file_on_a_pipe_for_pcm_is_one_line_and_leaves_nothing(
    command: Command, speech: Speech, tmp_path: Path
) -> None:
    words = command("-", tmp_path / "talk.mp4")
    done = subprocess.run(words, input=speech(1.0).read_bytes(), capture_output=True)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"a WAV file, and no raw PCM: name /dev/stdin" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_dev_stdin_takes_any_file(command: Command, speech: Speech, tmp_path: Path) -> None:
    data = speech(1.0).read_bytes()
    done = subprocess.run(command("/dev/stdin", tmp_path / "talk.mp4"), input=data, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert frames_in(tmp_path / "talk.mp4") == 25


@pytest.mark.slow
def test_a_report_that_cannot_be_written_is_told_before_the_stream(
    command: Command, endless: Path, tmp_path: Path
) -> None:
    report = str(tmp_path / "missing" / "report.json")
    done = subprocess.run(command(endless, tmp_path / "talk.mp4", "--report", report), capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "missing/report.json: cannot be written" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("audio", "output", "reason"),
    [
        ("http://host/speech.wav", "talk.mp4", "http://host/speech.wav: is a URL, and no file"),
        ("", "new/", "is a folder: name a file in it"),
    ],
)
def test_what_is_no_file_is_told(
    command: Command, speech: Speech, tmp_path: Path, audio: str, output: str, reason: str
) -> None:
    done = subprocess.run(command(audio or speech(1.0), f"{tmp_path}/{output}"), capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert reason in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("url", ["rtmp://127.0.0.1:{}/live/key", "rtsp://127.0.0.1:{}/live", "tcp://127.0.0.1:{}"])
def test_a_server_that_says_nothing_is_given_up_by_a_signal(
    command: Command, start: Start, endless: Path, url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = start(command(endless, url.format(server.getsockname()[1])))
        connection, _ = server.accept()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == -signal.SIGTERM
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 2], ids=["", "the relay starts slowly"])
def test_a_server_that_says_nothing_is_given_up_by_itself(
    speech: Speech, bundle: Path, avatar: Path, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    monkeypatch.setattr(relay_process, "STALL_TIMEOUT_S", 0.5)
    monkeypatch.setattr(relay_process, "COMMAND", starting_slowly("musetalk_runtime.output.relay", start))
    with socket.create_server(("127.0.0.1", 0)) as server, Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        url = f"rtmp://127.0.0.1:{server.getsockname()[1]}/live/key"
        with (
            Session(b, a, speech(20.0), fps=25) as session,
            pytest.raises(OutputError, match=r"took nothing for 0\.5 s"),
        ):
            for _ in session.push(url):
                pass
        server.setblocking(False)
        server.accept()[0].close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "audio", "output", "status", "reason"),
    [
        ("2>&-", "", "talk.mp4", 0, ""),
        ("<&-", "-", "talk.mp4", 2, "--audio -: that stream is closed"),
        (">&-", "", "-", 2, "-o -: that stream is closed"),
        (">/dev/full", "", "-", 2, "stdout: cannot be written: No space left on device"),
    ],
)
def test_a_standard_stream_that_is_closed_or_full_is_told(
    command: Command, speech: Speech, tmp_path: Path, closed: str, audio: str, output: str, status: int, reason: str
) -> None:
    words = command(audio or speech(1.0), output if output == "-" else tmp_path / output)
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, f"musetalk-edge: error: {reason}\n" if reason else "")
    if not status:
        assert frames_in(tmp_path / "talk.mp4") == 25


@pytest.mark.slow
def test_too_little_memory_is_one_line(command: Command, speech: Speech, tmp_path: Path) -> None:
    words = command(speech(1.0), tmp_path / "talk.mp4")
    done = subprocess.run(["sh", "-c", 'ulimit -v 300000; exec "$@"', "sh", *words], capture_output=True, text=True)
    assert done.returncode == 3
    assert "musetalk-edge: error: memory ran out" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "reads", "told"),
    [
        (403, False, "the server "),  # "answered", or "ended the connection": it depends on who is faster
        (500, True, "the server answered 500 Internal Server Error"),
        (307, True, "the server answered 307 Temporary Redirect"),
        (200, True, ""),
    ],
)
def test_a_server_that_refuses_an_upload_is_told(
    command: Command, endless: Path, speech: Speech, status: int, reads: bool, told: str
) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            while reads and (length := int(self.rfile.readline(), 16)):
                self.rfile.read(length + 2)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/live"
        words = command(speech(0.5) if reads else endless, url)
        done = subprocess.run(words, capture_output=True, text=True, timeout=100)
        server.shutdown()
    assert (done.returncode, done.stderr.count("\n")) == ((2, 1) if told else (0, 0))
    assert not told or f"{url}: cannot be " in done.stderr  # opened, or written
    assert told in done.stderr


def test_no_child_process_is_started(command: Command, start: Start, endless: Path, tmp_path: Path) -> None:
    process = start(command(endless, tmp_path / "talk.mp4"))
    _wait_for_partial(tmp_path, 20_000)
    assert children_of(process.pid) == []
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_fifo_waits_for_its_reader(command: Command, start: Start, speech: Speech, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    process = start(command(speech(1.0), tmp_path / "fifo"))
    _wait_until_it_waits(process)
    assert process.poll() is None
    with (tmp_path / "fifo").open("rb") as fifo:
        (tmp_path / "talk.mp4").write_bytes(fifo.read())
    assert process.wait() == 0
    assert frames_in(tmp_path / "talk.mp4") == 25


@pytest.mark.slow
def test_a_url_gets_the_stream_at_the_pace_of_real_time(
    command: Command, start: Start, speech: Speech, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = start(command(speech(1.0), f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        connection, _ = server.accept()
        received = b"".join(iter(lambda: connection.recv(65536), b""))
        connection.close()
    assert process.wait() == 0
    (tmp_path / "talk.ts").write_bytes(received)
    assert frames_in(tmp_path / "talk.ts") == 25


def test_a_url_nobody_listens_at_is_one_line_without_its_password(command: Command, speech: Speech) -> None:
    done = subprocess.run(command(speech(1.0), "tcp://me:secret@127.0.0.1:1"), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "musetalk-edge: error: tcp://127.0.0.1:1: cannot be opened: Connection refused\n"


@pytest.mark.parametrize("name", ["text.wav", "empty.wav", "silent.wav", "mute.mp4", "missing.wav"])
def test_bad_audio_is_one_line_and_leaves_nothing(command: Command, bad_audio: Path, tmp_path: Path, name: str) -> None:
    _assert_refused(command(bad_audio / name, tmp_path / "out" / ".." / "talk.mp4"), name, tmp_path)


def test_live_silence_of_no_length_is_one_line_and_leaves_nothing(command: Command, tmp_path: Path) -> None:
    _assert_refused(command("-", tmp_path / "talk.mp4"), "before its first sample", tmp_path)


def test_a_bundle_or_avatar_that_is_off_is_one_line(
    command: Command, bundle: Path, avatar: Path, speech: Speech, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    make = command(speech(1.0), tmp_path / "out" / "talk.mp4")
    flipped = shutil.copytree(bundle, tmp_path / "flipped")
    content = bytearray((flipped / "generator.onnx.data").read_bytes())
    content[1000] ^= 4
    (flipped / "generator.onnx.data").write_bytes(content)
    newer = shutil.copytree(bundle, tmp_path / "newer")
    _replace(newer / MANIFEST, '"schema": 1', '"schema": 99')
    foreign = shutil.copytree(avatar, tmp_path / "foreign")
    _replace(foreign / MANIFEST, '"encoder_id": "', '"encoder_id": "0')
    for old, new, message in [
        (bundle, flipped, "generator.onnx.data: its content does not match the hash"),
        (bundle, newer, "has schema 99"),
        (bundle, avatar, "expected a bundle, found 'avatar'"),
        (bundle, tmp_path / "nowhere", "no such bundle"),
        (avatar, foreign, "run 'musetalk-edge prepare"),
    ]:
        _assert_refused([str(new) if word == str(old) else word for word in make], message, tmp_path / "out")


def test_an_older_file_survives_an_error(command: Command, bad_audio: Path, tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").write_text("older")
    done = subprocess.run(command(bad_audio / "text.wav", tmp_path / "talk.mp4"), capture_output=True, text=True)
    assert done.returncode == 2
    assert (tmp_path / "talk.mp4").read_text() == "older"


def test_unusable_outputs_are_one_line(command: Command, speech: Speech, tmp_path: Path) -> None:
    _assert_refused(command(speech(1.0), tmp_path), "is a folder", tmp_path)
    _assert_refused(command(speech(1.0), tmp_path / "missing" / "talk.mp4"), "No such file", tmp_path)
    _assert_refused(command(speech(1.0), "gopher://127.0.0.1/x"), "expected a URL of", tmp_path)


def test_verbose_adds_the_traceback(command: Command, tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path / "no.wav", tmp_path / "talk.mp4", "--verbose"), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_progress_shows_on_a_terminal(command: Command, start: Start, speech: Speech, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = start(command(speech(1.0), tmp_path / "talk.mp4"), stderr=theirs)
    os.close(theirs)
    shown = b"".join(_read_all(ours))
    os.close(ours)
    assert process.wait() == 0
    assert b"frame " in shown
    assert b"x real time" in shown
    assert b"buffer " in shown


def _assert_refused(command: list[str], text: str, folder: Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert text in done.stderr
    assert done.stderr.startswith("musetalk-edge: error: ")
    assert done.stderr.count("\n") == 1
    assert list(folder.iterdir()) == []


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def _wait_for_partial(folder: Path, size: int) -> None:
    partial = folder.glob
    until(lambda: any(file.stat().st_size >= size for file in partial(".*.partial")), f"{size} bytes of stream")


def _wait_until_it_waits(process: "subprocess.Popen[bytes]") -> None:
    """Until all its threads sleep, at most of many looks: it makes nothing, and does not wait for its turn either."""
    looks: deque[bool] = deque(maxlen=50)

    def waits() -> bool:
        looks.append(set(_thread_states(process.pid)) == {"S"})
        return sum(looks) >= 30  # at some it looks itself whether it is to stop

    until(waits, "it waits")


def _thread_states(pid: int) -> list[str]:
    states = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it has ended
            states.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return states


def _processor_ticks(pid: int) -> int:
    """What it has used of the processors, in hundredths of a second."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def _read_all(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(descriptor, 4096)
        except OSError:  # how a pseudo-terminal says that the other end is closed
            return
        yield data
