"""The file of access tokens: their names, digests and limits, never the tokens themselves."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, OutputError
from musetalk_runtime.service.security.rate_limit import RateLimit
from musetalk_runtime.storage.destination import Destination
from musetalk_runtime.storage.output_file import write_output

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
NUMBER = re.compile(r"[1-9][0-9]{0,8}")
MAX_FILE_BYTES = 1 << 20
MIB = 1 << 20
FILE_HEADER = "# name, SHA-256 of the token, sessions at once, MiB of uploads an hour; - for no limit of its own\n"


class Token:
    """An access token of the holder `name`.

    It may have `sessions` at once, None for as many as there is room for, and upload `uploads` MiB an hour, None for no
    limit; ``uploads`` counts them.
    """

    def __init__(self, name: str, digest: bytes, sessions: int | None = None, uploads: int | None = None) -> None:
        self.name = name
        self.digest = digest
        self.sessions = sessions
        self.uploads = RateLimit(None if uploads is None else uploads * MIB)


class Tokens:
    """The tokens of one file, read now. Raises InputNotFound, or InvalidArgument for a file of another form."""

    def __init__(self, path: Path) -> None:
        self._tokens = list(_read(path))
        names = [token.name for token in self._tokens]
        if len(set(names)) < len(names):
            raise InvalidArgument(f"{path}: two tokens have one name")
        if not names:
            raise InvalidArgument(f"{path}: holds no token: make one with 'musetalk-edge token NAME --tokens {path}'")

    def find(self, text: str) -> Token | None:
        """The token that `text` is; takes as long whichever it is."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        found = [token for token in self._tokens if hmac.compare_digest(token.digest, digest)]
        return found[0] if found else None


def add_token(path: Path, name: str, sessions: int | None, uploads: int | None) -> str:
    """Make a token of 256 random bits and add its digest to the file, which is made if need be, for its owner alone.

    Gives the token, which is held nowhere. Raises InvalidArgument for a name that is taken or out of form, and
    OutputError.
    """
    if not NAME.fullmatch(name):
        raise InvalidArgument(f"token name {name!r}: expected letters, digits, ., - and _, 64 at most")
    if Destination(path).descriptor is not None:
        raise InvalidArgument(f"{path}: is an open file, and tokens are read from their file too: name the file itself")
    if path.exists() and name in [token.name for token in _read(path)]:
        raise InvalidArgument(f"{path}: there is a token {name!r} already: delete its line to make it anew")
    text = secrets.token_urlsafe(32)
    line = f"{name} {hashlib.sha256(text.encode()).hexdigest()} {_limit(sessions)} {_limit(uploads)}\n"
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else FILE_HEADER
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}") from None
    write_output(path, before + "\n" * (not before.endswith("\n")) + line, 0o600)
    return text


def _read(path: Path) -> Iterator[Token]:
    if not path.is_file():
        raise InputNotFound(f"{path}: no such file of tokens: 'musetalk-edge token NAME --tokens {path}' makes one")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise InvalidArgument(f"{path}: larger than {MAX_FILE_BYTES} bytes: not a file of tokens")
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            yield _parse(words, f"{path}:{number}")


def _parse(words: list[str], where: str) -> Token:
    if len(words) != 4 or not NAME.fullmatch(words[0]) or not DIGEST.fullmatch(words[1]):
        raise InvalidArgument(f"{where}: expected NAME SHA256 SESSIONS UPLOADS, as 'musetalk-edge token' writes it")
    limits: list[int | None] = []
    for word in words[2:]:
        if word != "-" and not NUMBER.fullmatch(word):
            raise InvalidArgument(f"{where}: limit {word!r}: expected a whole number above 0, or -")
        limits.append(None if word == "-" else int(word))
    return Token(words[0], bytes.fromhex(words[1]), *limits)


def _limit(value: int | None) -> str:
    if value is not None and not NUMBER.fullmatch(str(value)):
        raise InvalidArgument(f"limit {value}: expected a whole number above 0")
    return "-" if value is None else str(value)
