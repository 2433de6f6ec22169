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

PRIVATE_KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIKf1l\nv1cX0r\n-----END EC PRIVATE KEY-----"
WHO_AND_WHERE = """\
wpa_supplicant: psk=hunter2 PIN=73519 auth=letmein bearer: opensesame "pass": "over rainbow"
mail to erika.mustermann@example.org from 203.0.113.77 and [2001:db8::77]:9 by 127.0.0.1, at 02:00:5e:10:00:77
/home/erika/My Talks/face77.mp4: cannot be read; '/srv/erika 77/x' neither
File "/home/erika/venv/lib/python3.11/site-packages/musetalk_runtime/session.py", line 7
{"message": "session begins", "avatar": "zelda", "session": "s"}
avatar zelda is left out; avatar anna is not"""
SECRETS = (
    "MHcCAQEEIKf1l", "v1cX0r", "hunter2", "73519", "letmein", "opensesame", "rainbow", "erika", "mustermann",
    "203.0.113.77", "2001:db8::77", "02:00:5e", "Talks", "face77", "zelda", "anna",
)  # fmt: skip


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
                f"{PRIVATE_KEY}\n{WHO_AND_WHERE}\n"
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
        "folders/1/manifest.json",
        "folders/2/manifest.json", "folders/2/1.json", "folders/2/current",
    }  # fmt: skip
    text = {name.partition("/")[2]: content.decode() for name, content in files.items()}
    assert json.loads(text["doctor.json"])["healthy"]
    manifest = text["folders/1/manifest.json"]
    assert json.loads(manifest) == json.loads((bundle / "manifest.json").read_text())
    assert "musetalk_sessions 1" in text["service/metrics.txt"]
    assert "numpy " in text["packages.txt"]
    assert "out of memory" in text["log.txt"]
    assert "rtmp://media.example/***" in text["log.txt"]
    digest = (tmp_path / "tokens").read_text().splitlines()[-1].split()[1]
    pictures = [file.read_bytes()[100:150] for file in avatar.iterdir() if file.name != "manifest.json"]
    assert "wpa_supplicant: psk=***" in text["log.txt"]
    assert "site-packages/musetalk_runtime/session.py" in text["log.txt"]
    assert "127.0.0.1" in text["log.txt"]
    for secret in (token, digest, session.rpartition("/")[2], "secretkey", "user:pass", *SECRETS):
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
    assert "not there" in text["help/folders/1/manifest.json"]


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
        ("psk=a pass=b; PIN: 12, wpa-auth=c", "psk=*** pass=***; PIN: ***, wpa-auth=***"),
        ("bearer:abc", "bearer:***"),
        ("mail to a.b+c@d.example now", "mail to *** now"),
        ("from 10.1.2.3:80 by 127.0.0.1 and ::1", "from ***:80 by 127.0.0.1 and ::1"),
        ("[fe80::1%eth0]:80 at 12:00:01.5", "[***%eth0]:80 at 12:00:01.5"),
        ("aa:bb:cc:00:11:22 is away", "*** is away"),
        ("/home/a/x.mp4: no such file", "/***.mp4: no such file"),
        ("/home/a b/x.mp4: no such file", "/***.mp4: no such file"),
        ("~/x/y.wav and '/a, b/c' and 3 MB/s", "/***.wav and '/***' and 3 MB/s"),
        ("/var/lib/musetalk-edge/avatars/eva/1/frames.mp4", "/var/lib/musetalk-edge/avatars/***/1/frames.mp4"),
        ('File "/x/lib/python3.11/site-packages/av/a.py"', 'File "/***/python3.11/site-packages/av/a.py"'),
        ("GET /v1/sessions/abc/stream.mp4 HTTP/1.1", "GET /v1/sessions/***/stream.mp4 HTTP/1.1"),
        ("GET /player?avatar=eva 200; eva speaks", "GET /player?avatar=*** 200; *** speaks"),
        ("POST /v1/avatars/eva.", "POST /v1/avatars/***."),
        ("serve -a eva=x -b y: eva, Evamaria", "serve -a ***=x -b y: ***, Evamaria"),
        ("-----BEGIN RSA PRIVATE KEY-----\\nMIIE\\n", "***"),
        ("a MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7/+==", "a ***"),
        ('{"said": "{\\"secret\\": \\"one two\\"}"}', '{"said": "{\\"secret\\": \\"***\\"\\"}"}'),
    ],
)
def test_redaction(text: str, left: str) -> None:
    assert redact(text) == left
