"""Where outputs go: links are followed, and what cannot be replaced is written in place.

As root a fault here could replace /dev/stdout. So it is named by a link in a test's own folder, and by its own name
only where /dev is another one.
"""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import pytest

from helpers.media import moving_picture
from helpers.processes import EDGE
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.ort.provider import import_onnxruntime
from musetalk_runtime.cli.command import run_command
from musetalk_runtime.core.errors import InvalidArgument, OutputError
from musetalk_runtime.storage.destination import Destination
from musetalk_runtime.storage.durable import point
from musetalk_runtime.storage.folder import new_folder, read_folder, written_aside
from musetalk_runtime.storage.output_file import OutputFile, write_output

Speech = Callable[[float], Path]
Stream = Callable[..., list[str]]

WRITE = [sys.executable, "-c", "import sys; from pathlib import Path; "
         "from musetalk_runtime.storage.output_file import *; write_output(Path(sys.argv[1]), 'new')"]  # fmt: skip
OTHER_DEV = "mount -t tmpfs tmpfs /dev && ln -s /proc/self/fd /dev/fd && ln -s fd/1 /dev/stdout"


@pytest.fixture
def stream(bundle: Path, avatar: Path, speech: Speech) -> Stream:
    """The command that streams 12 frames."""
    inputs = ["-b", str(bundle), "-a", str(avatar), "--audio", str(speech(0.48))]

    def make(output: Path | str, *options: str) -> list[str]:
        return [*EDGE, "stream", *inputs, "-o", str(output), "--fps", "25", *options]

    return make


@pytest.fixture
def stdout(tmp_path: Path) -> Path:
    """A link such as /dev/stdout is."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "stdout").symlink_to("/proc/self/fd/1")
    return tmp_path / "dev" / "stdout"


def namespace(setup: str, command: list[str]) -> list[str]:
    """`command` in mounts of its own, after `setup`; skips the test where nobody may have such."""
    made = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    if not shutil.which("unshare") or subprocess.run([*made, OTHER_DEV], capture_output=True).returncode:
        pytest.skip("needs mount namespaces, which this machine does not allow")
    return [*made, f'{setup} && exec "$@"', "sh", *command]


def frames_in(data: bytes, folder: Path) -> int:
    (folder / "read.mp4").write_bytes(data)
    with av.open(str(folder / "read.mp4")) as container:
        return sum(1 for _ in container.decode(video=0))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("streams", "status", "said"),
    [
        (">&-", 2, "stdout: cannot be written: Bad file descriptor"),
        (">/dev/full", 2, "stdout: cannot be written: No space left on device"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        (">/dev/full 2>/dev/full", 2, ""),
    ],
)
@pytest.mark.parametrize("end", ["return 0", "raise SystemExit(0)"])
def test_what_cannot_be_printed_is_told_and_what_cannot_be_told_is_nothing(
    streams: str, status: int, said: str, end: str
) -> None:
    code = "from musetalk_runtime.cli.command import *\ndef command(_):\n print('hello')\n"
    code += f" print('told', file=sys.stderr, flush=True)\n {end}\nsys.exit(run_command('me', command, []))"
    shell = ["sh", "-c", f'"$@" {streams}', "sh", sys.executable, "-c", code]
    done = subprocess.run(shell, capture_output=True, text=True)
    lines = [] if "2>" in streams else ["told", f"me: error: {said}"]
    assert (done.returncode, done.stderr.splitlines()) == (status, lines)
    assert done.stdout == ("" if status else "hello\n")


def test_a_package_that_does_not_fit_into_memory_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('x.so: failed to map segment from shared object')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    assert run_command("me", lambda _: import_onnxruntime(), []) == 3
    assert "me: error: memory ran out" in capsys.readouterr().err


def test_a_missing_package_is_told_with_one_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("livekit", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "musetalk_runtime.integrations.livekit", raising=False)
    assert run_command("me", lambda _: __import__("musetalk_runtime.integrations.livekit") and 0, []) == 3
    assert capsys.readouterr().err.rstrip().endswith("pip install 'musetalk-edge[livekit]'")
    assert run_command("me", lambda _: __import__("onnxruntime") and 0, [], extra="export") == 3
    assert capsys.readouterr().err.rstrip().endswith("pip install 'musetalk-edge[export]'")
    assert run_command("me", lambda _: __import__("musetalk_runtime.integrations.livekit") and 0, []) == 3
    assert capsys.readouterr().err.count("pip install") == 1


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_stdout_by_its_name_gets_the_stream_after_what_it_holds(
    stream: Stream, stdout: Path, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "out").write_bytes(b"older")
    with (tmp_path / "out").open(mode, buffering=0) as file:
        file.write(b"header")
        assert subprocess.run(stream(stdout), stdout=file).returncode == 0
        file.write(b"trailer")
    head = b"header" if mode == "wb" else b"olderheader"
    data = (tmp_path / "out").read_bytes()
    assert (data[: len(head)], data[-7:]) == (head, b"trailer")
    assert frames_in(data[len(head) : -7], tmp_path) == 12
    assert (stdout.readlink(), names(stdout.parent)) == (Path("/proc/self/fd/1"), ["stdout"])


def test_dev_stdout_itself_is_written_and_stays(stream: Stream, tmp_path: Path) -> None:
    command = ["sh", "-c", '"$@" && readlink /dev/stdout >&2 && ls /dev >&2', "sh", *stream("/dev/stdout")]
    with (tmp_path / "out").open("wb") as file:
        done = subprocess.run(namespace(OTHER_DEV, command), stdout=file, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "fd/1\nfd\nstdout\n")
    assert frames_in((tmp_path / "out").read_bytes(), tmp_path) == 12


def test_other_open_files_by_their_names(stream: Stream, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "report").open("wb") as report:
        pair = out.fileno(), report.fileno()
        command = stream(f"/dev/fd/{pair[0]}", "--report", f"/proc/self/fd/{pair[1]}")
        assert subprocess.run(command, pass_fds=pair).returncode == 0
    assert frames_in((tmp_path / "out").read_bytes(), tmp_path) == 12
    assert json.loads((tmp_path / "report").read_text())["frames"] == 12


def test_a_socket_by_its_name(stream: Stream, stdout: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen(stream(stdout), stdout=theirs) as process:
        theirs.close()
        received = b"".join(iter(lambda: ours.recv(65536), b""))
    assert process.returncode == 0
    assert frames_in(received, tmp_path) == 12


def test_open_files_that_cannot_be_written_are_one_line(stream: Stream, tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    with (tmp_path / "input").open("xb+") as file:
        reading = os.open(file.name, os.O_RDONLY)
        for number, text in ((reading, "is open for reading only"), (ours, "reading only"), (99, "Bad file descr")):
            given = [] if number == 99 else [number]
            command = stream(f"/dev/fd/{number}")
            done = subprocess.run(command, pass_fds=given, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
            assert f"musetalk-edge: error: /dev/fd/{number}: " in done.stderr
            assert text in done.stderr
    for descriptor in (reading, ours, theirs):
        os.close(descriptor)


def test_links_to_files_are_followed_and_stay(stream: Stream, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "talk.mp4").write_text("older")
    (tmp_path / "target" / "talk.mp4").chmod(0o640)
    (tmp_path / "talk.mp4").symlink_to("again.mp4")
    (tmp_path / "again.mp4").symlink_to("target/talk.mp4")
    (tmp_path / "report").symlink_to(tmp_path / "target" / "report.json")  # which there is not yet
    assert subprocess.run(stream(tmp_path / "talk.mp4", "--report", str(tmp_path / "report"))).returncode == 0
    assert names(tmp_path) == ["again.mp4", "report", "talk.mp4", "target"]
    assert all((tmp_path / name).is_symlink() for name in ("again.mp4", "report", "talk.mp4"))
    assert names(tmp_path / "target") == ["report.json", "talk.mp4"]
    assert frames_in((tmp_path / "target" / "talk.mp4").read_bytes(), tmp_path) == 12
    assert stat.S_IMODE((tmp_path / "target" / "talk.mp4").stat().st_mode) == 0o640
    assert json.loads((tmp_path / "target" / "report.json").read_text())["frames"] == 12


def test_an_error_leaves_a_link_and_what_it_leads_to(stream: Stream, tmp_path: Path) -> None:
    (tmp_path / "target.mp4").write_text("older")
    (tmp_path / "talk.mp4").symlink_to("target.mp4")
    done = subprocess.run(stream(tmp_path / "talk.mp4", "--audio", __file__), capture_output=True)
    assert done.returncode == 2
    assert names(tmp_path) == ["talk.mp4", "target.mp4"]
    assert (tmp_path / "talk.mp4").read_text() == "older"


def test_an_output_is_no_input_and_no_other_output(stream: Stream, speech: Speech, tmp_path: Path) -> None:
    audio = tmp_path / "speech.wav"
    audio.write_bytes(speech(0.48).read_bytes())
    (tmp_path / "link.mp4").symlink_to("speech.wav")
    cv2.imwrite(str(tmp_path / "face.png"), moving_picture(0))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    face = [*EDGE, "prepare", str(tmp_path / "face.png"), "--face-box", "200,60,300,200", "-o", str(tmp_path / "face")]
    for command, said in (
        (stream(tmp_path / "link.mp4", "--audio", str(audio)), "link.mp4: is the same file as --audio"),
        (stream(tmp_path / "new.mp4", "--report", str(tmp_path / "new.mp4")), "new.mp4: is the same file as -o"),
        ([*face, "--preview", str(tmp_path / "face.png")], "face.png: is the same file as the source"),
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_links_in_a_loop_are_one_line(stream: Stream, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    for command in (
        stream(tmp_path / "one"),
        [*EDGE, "prepare", __file__, "-o", str(tmp_path / "one")],
        [*EDGE, "token", "anna", "--tokens", str(tmp_path / "one")],
        [*EDGE, "doctor", "--support", str(tmp_path / "one")],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr == (
            f"musetalk-edge: error: {tmp_path / 'one'}: cannot be written: Too many levels of symbolic links\n"
        )
    assert names(tmp_path) == ["one", "two"]


def test_an_avatar_and_its_preview_go_where_links_lead(bundle: Path, stdout: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "face.png"), moving_picture(0))
    (tmp_path / "avatars").mkdir()
    (tmp_path / "look.png").symlink_to("avatars/look.png")
    for name in ("new", "empty", "older"):
        (tmp_path / name).symlink_to(f"avatars/{name}")
    (tmp_path / "avatars" / "empty").mkdir()
    command = [*EDGE, "prepare", str(tmp_path / "face.png"), "-b", str(bundle), "--face-box", "200,60,300,200"]
    for name in ("older", "new", "empty", "older"):
        preview = ["--preview", str(tmp_path / "look.png")] if name == "new" else []
        assert subprocess.run([*command, "-o", str(tmp_path / name), *preview]).returncode == 0
        assert (tmp_path / name).readlink() == Path("avatars", name)
        with Avatar.open(tmp_path / "avatars" / name) as avatar:
            assert len(avatar) == 1
    assert names(tmp_path / "avatars") == ["empty", "look.png", "new", "older"]
    done = subprocess.run([*command, "-o", str(tmp_path / "new"), "--preview", str(stdout)], capture_output=True)
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "avatars" / "look.png").read_bytes()
    done = subprocess.run([*command, "-o", str(stdout)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "leads into /dev or /proc" in done.stderr
    assert names(stdout.parent) == ["stdout"]


def test_a_current_version_is_no_place_for_a_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "1", "thing", 1):
        pass
    point(tmp_path / "current", "1")
    point(tmp_path / "mine", "current")
    for name in ("current", "mine"):
        with (
            pytest.raises(InvalidArgument, match="'musetalk-edge update' alone changes"),
            new_folder(tmp_path / name, "thing", 1),
        ):
            pass
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").touch()
    point(tmp_path / "mine", "diary")
    with pytest.raises(InvalidArgument, match="exists and is no thing"), new_folder(tmp_path / "mine", "thing", 1):
        pass
    assert (names(tmp_path), names(tmp_path / "diary")) == (["1", "current", "diary", "mine"], ["monday.txt"])
    read_folder(tmp_path / "current", "thing", 1)


def test_no_folder_takes_the_place_of_an_open_file(stdout: Path) -> None:
    with pytest.raises(OutputError, match="leads into /dev or /proc"), written_aside(stdout):
        pass
    assert stdout.is_symlink()


def test_a_support_file_goes_where_a_link_leads(stdout: Path, tmp_path: Path) -> None:
    command = [*EDGE, "doctor", "--service", "127.0.0.1:1", "--log", str(tmp_path / "none"), "--support"]
    (tmp_path / "help").symlink_to("help.tar.gz")
    subprocess.run([*command, str(tmp_path / "help")], check=True, capture_output=True)
    assert (tmp_path / "help").is_symlink()
    again = subprocess.run([*command, str(tmp_path / "help")], capture_output=True, text=True)
    assert (again.returncode, "exists: choose another name" in again.stderr) == (2, True)
    with (tmp_path / "open.tar.gz").open("wb") as file:
        opened = [*command, f"/dev/fd/{file.fileno()}"]
        subprocess.run(opened, check=True, capture_output=True, pass_fds=[file.fileno()])
    for name in ("help.tar.gz", "open.tar.gz"):
        with tarfile.open(tmp_path / name) as tar:
            assert any(member.name.endswith("/doctor.json") for member in tar)
    mixed = subprocess.run([*command, str(stdout)], capture_output=True, text=True)
    assert (mixed.returncode, mixed.stdout) == (2, "")
    assert "is stdout, where the findings go" in mixed.stderr


def test_tokens_go_where_a_link_leads(stdout: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").symlink_to("target")
    for name in ("anna", "ben"):
        subprocess.run([*EDGE, "token", name, "--tokens", str(tmp_path / "tokens")], check=True, capture_output=True)
    assert names(tmp_path) == ["dev", "target", "tokens"]
    assert [line.split()[0] for line in (tmp_path / "target").read_text().splitlines()] == ["#", "anna", "ben"]
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o600
    assert (tmp_path / "tokens").is_symlink()
    done = subprocess.run([*EDGE, "token", "anna", "--tokens", str(stdout)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "name the file itself" in done.stderr


def test_a_file_in_a_folder_that_takes_no_new_one_is_written_in_place(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "file"
    file.write_text("a longer text")
    number = file.stat().st_ino
    file.parent.chmod(0o555)
    # Root may write everywhere, but for this.
    plain = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    try:
        subprocess.run([*plain, *WRITE, str(file)], check=True)
        missing = subprocess.run([*plain, *WRITE, str(file.with_name("none"))], capture_output=True, text=True)
    finally:
        file.parent.chmod(0o755)
    assert (file.read_text(), file.stat().st_ino, names(file.parent)) == ("new", number, ["file"])
    assert missing.stderr.endswith(f"{file.with_name('none')}: cannot be written: Permission denied\n")


def test_a_file_that_is_mounted_by_itself_is_written_in_place(tmp_path: Path) -> None:
    for name in ("inside", "outside"):
        (tmp_path / name).write_text("a longer text")
    mount = f"mount --bind '{tmp_path}/outside' '{tmp_path}/inside'"
    subprocess.run(namespace(mount, [*WRITE, str(tmp_path / "inside")]), check=True)
    assert (tmp_path / "outside").read_text() == "new"
    assert (tmp_path / "inside").read_text() == "a longer text"
    assert names(tmp_path) == ["inside", "outside"]


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (there.append((tmp_path / "file").exists()), sync(number)))
    for text, mode in (("first", 0o600), ("second", None)):
        write_output(tmp_path / "file", text, mode)
        assert (tmp_path / "file").read_text() == text
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert there == [False, True, True, True]
    with pytest.raises(OutputError, match=r"cannot be written: Is a directory"):
        write_output(tmp_path, "text")
    with pytest.raises(ValueError, match="half way"), OutputFile(tmp_path / "file") as file:  # noqa: PT012
        file.write(b"third")
        raise ValueError("half way")
    assert (names(tmp_path), (tmp_path / "file").read_text()) == (["file"], "second")


@pytest.mark.parametrize(
    ("path", "plain", "replaceable", "descriptor"),
    [
        ("/dev/null", False, False, None),
        ("/dev/no-such-device", False, False, None),
        ("/dev/fd/77", False, False, 77),
        ("/proc/self/fd/77", False, False, 77),
        ("/proc/thread-self/fd/77", False, False, 77),
        ("/proc/self/comm", False, False, None),
        ("/proc/self/cwd/no-such-file", True, True, None),
        ("/dev/shm/no-such-file", True, True, None),  # noqa: S108
        ("no-such-file", True, True, None),
        (".", False, True, None),
    ],
)
def test_what_may_be_replaced(path: str, plain: bool, replaceable: bool, descriptor: int | None) -> None:
    place = Destination(Path(path))
    assert (place.plain, place.replaceable, place.descriptor) == (plain, replaceable, descriptor)


def test_open_files_of_other_processes_are_written_in_place(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file, subprocess.Popen(["sleep", "60"], stdout=file) as other:
        place = Destination(Path(f"/proc/{other.pid}/fd/1"))
        write_output(Path(f"/proc/{other.pid}/fd/1"), "new")
        other.kill()
    assert (place.plain, place.replaceable, place.descriptor) == (False, False, None)
    assert (tmp_path / "out").read_text() == "new"
