"""Tokens that the front end of a fleet signs for a device."""

import subprocess
from pathlib import Path

import pytest

from helpers.processes import EDGE
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument
from musetalk_runtime.service.security.signed_tokens import LIFETIME_S, SignedTokens, device_key, read_secret


def test_a_token_is_its_holders_for_a_minute() -> None:
    now = 1000.0
    tokens = SignedTokens(device_key(b"s" * 32, "a"), lambda: now)
    text = tokens.sign("anna", sessions=2, uploads=100)
    found = tokens.find(text)
    assert found
    assert (found.name, found.sessions, found.uploads.limit) == ("anna", 2, 100 << 20)
    assert tokens.find(tokens.sign("anna", 2, 100)) is found
    assert tokens.find(tokens.sign("ben")) is not found
    now += LIFETIME_S
    assert tokens.find(text) is None
    now -= 3 * LIFETIME_S  # a clock that is far behind
    assert tokens.find(text) is None


@pytest.mark.parametrize("text", ["", ".", "e30=.", "é.é", "x" * 5000, "\ud800.x"])
def test_what_is_no_token_opens_nothing(text: str) -> None:
    assert SignedTokens(b"k" * 32).find(text) is None


def test_each_byte_of_a_token_counts() -> None:
    tokens = SignedTokens(b"k" * 32)
    text = tokens.sign("anna")
    for n, letter in enumerate(text):
        assert tokens.find(text[:n] + ("A" if letter != "A" else "B") + text[n + 1 :]) is None, n


def test_a_secret_is_long_and_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(InputNotFound, match="No such file"):
        read_secret(file)
    for content in (b"", b"x" * 31, b"x" * 5000):
        file.write_bytes(content)
        with pytest.raises(InvalidArgument, match="openssl rand"):
            read_secret(file)
    file.write_bytes(b"x" * 32 + b"\n")
    assert read_secret(file) == b"x" * 32


def test_a_service_takes_tokens_of_one_kind(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"x" * 32)
    done = subprocess.run(
        [*EDGE, "serve", "--token-key", str(tmp_path / "key"), "--tokens", str(tmp_path / "tokens")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "a service takes the tokens of one of them" in done.stderr
