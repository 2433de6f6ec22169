"""``musetalk-edge doctor --support``: what is in the file, and what is not."""

import json
import tarfile
from pathlib import Path

import pytest

from helpers.service_client import Client, serving
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.cli.main import main
from musetalk_runtime.diagnostics.redact import redact
from musetalk_runtime.diagnostics.support import LOG_BYTES
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.tokens import Tokens, add_token
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings
from musetalk_runtime.update.versions import Versions


def test_it_holds_what_helps_and_nothing_else(
    bundle: Path, avatar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = add_token(tmp_path / "tokens", "anna", None, None)
    Versions(tmp_path / "anna").add(avatar, print)
    current = tmp_path / "anna" / "current"
    with Bundle.open(bundle) as engines, Avatar.open(current) as face:
        service = Service(engines, {"one": face}, Settings(sessions=1))
        with serving(service, Access(Tokens(tmp_path / "tokens"))) as server:
            session = Client(server.port, token).begin()
            (tmp_path / "log").write_text(
                f"2026-01-01 the engines failed: out of memory\nAuthorization: Bearer {token}\n"
                f"GET /x?token={token}&y=1\n"
                f"push to rtmp://user:pass@media.example/live/secretkey failed\nGET {session}/stream.mp4\n{token}\n"
            )
            monkeypatch.setenv("MUSETALK_EDGE_TOKEN", token)
            command = ["doctor", "-b", str(bundle), "-a", str(current), "--service", f"127.0.0.1:{server.port}"]
            command += ["--log", str(tmp_path / "log"), "--support", str(tmp_path / "help.tar.gz")]
            assert main(command) == 0
            assert main(command) == 2  # it is there already
    with tarfile.open(tmp_path / "help.tar.gz") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert {name.partition("/")[2] for name in files} == {
        "README.txt", "doctor.json", "packages.txt", "machine.txt", "log.txt",
        "service/readyz.txt", "service/metrics.txt",
        f"folders/1-{bundle.name}/manifest.json",
        "folders/2-1/manifest.json", "folders/2-1/1.json", "folders/2-1/current",
    }  # fmt: skip
    text = {name.partition("/")[2]: content.decode() for name, content in files.items()}
    assert json.loads(text["doctor.json"])["healthy"]
    manifest = text[f"folders/1-{bundle.name}/manifest.json"]
    assert json.loads(manifest) == json.loads((bundle / "manifest.json").read_text())
    assert "musetalk_sessions 1" in text["service/metrics.txt"]
    assert "numpy " in text["packages.txt"]
    assert "out of memory" in text["log.txt"]
    assert "rtmp://media.example/***" in text["log.txt"]
    digest = (tmp_path / "tokens").read_text().splitlines()[-1].split()[1]
    pictures = [file.read_bytes()[100:150] for file in avatar.iterdir() if file.name != "manifest.json"]
    for secret in (token, digest, session.rpartition("/")[2], "secretkey", "user:pass"):
        assert not [name for name, content in files.items() if secret.encode() in content]
    for picture in filter(None, pictures):
        assert not [name for name, content in files.items() if picture in content]
    assert oct((tmp_path / "help.tar.gz").stat().st_mode)[-3:] == "600"


def test_what_cannot_be_had_is_noted(tmp_path: Path) -> None:
    command = ["doctor", "-b", str(tmp_path / "gone"), "--service", "127.0.0.1:1", "--log", str(tmp_path / "none")]
    assert main([*command, "--support", str(tmp_path / "help.tar.gz")]) == 3
    with tarfile.open(tmp_path / "help.tar.gz") as tar:
        text = {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]
    assert "not there" in text["help/service/metrics.txt"]
    assert "cannot be read" in text["help/log.txt"]
    assert "not there" in text["help/folders/1-gone/manifest.json"]


def test_a_log_that_is_cut_begins_with_a_whole_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"token=" + b"s3cret" * 10 + b" " * (LOG_BYTES - 20) + b"\nthe end\n")
    command = ["doctor", "--service", "127.0.0.1:1", "--log", str(log), "--support", str(tmp_path / "help.tar.gz")]
    assert main(command) == 0
    with tarfile.open(tmp_path / "help.tar.gz") as tar:
        assert tar.extractfile("help/log.txt").read() == b"the end\n"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"token": "abc", "level": "info"}', '{"token": "***", "level": "info"}'),
        ("srt://h:9?streamid=x&passphrase=y ok", "srt://h:9/*** ok"),
        ("http://127.0.0.1:8787/ holds 2 sessions", "http://127.0.0.1:8787/*** holds 2 sessions"),
        ("password=hunter2;", "password=***;"),
        ("frame 7 of 12 took 33.1 ms", "frame 7 of 12 took 33.1 ms"),
        ("keyframe: 7 of 25", "keyframe: 7 of 25"),
        ("by http://user:pass@proxy now", "by http://proxy now"),
        ("rtmp://user:p@ss@host/app/live failed", "rtmp://*** failed"),
        ("rtmp://user:p/ss@host/app/live failed", "rtmp://*** failed"),
        ("12:00 Cookie: a=b; c=d", "12:00 Cookie: ***"),
        ("X-Api-Key: one two", "X-Api-Key: ***"),
        ("Proxy-Authorization: Digest username=x, response=y", "Proxy-Authorization: ***"),
        ("authorization=Basic eHk=", "authorization=*** ***"),
        ("streamkey=abc&x=1", "streamkey=***&x=1"),
        ('password="one \\"two three" next', 'password="***" next'),
        ("passwd='one two' next", "passwd='***' next"),
        ('{"said": "{\\"secret\\": \\"one two\\"}"}', '{"said": "{\\"secret\\": \\"***\\"\\"}"}'),
    ],
)
def test_redaction(text: str, left: str) -> None:
    assert redact(text) == left
