"""Removal of secrets, addresses, local paths and avatars' names from text that others will read."""

import ipaddress
import re
from collections.abc import Collection
from contextlib import suppress

NAMES = (
    r"(?:token|secret|passw(?:or)?d|passphrase|pass|pwd|psk|pin|otp|credentials?|signature|streamid|key|auth|"
    r"authorization|bearer|cookie)"
)
QUOTED = r"\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?|\\+[\"'][^\"'\\\n]*"  # the last is JSON within JSON
PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
HEADERS = re.compile(rf"(?im)^(.*?\b(?:[\w-]*authorization|(?:set-)?cookie|x-[\w-]*{NAMES})\s*:\s*)(?![\s*\"'])\S.*$")
NAMED = re.compile(rf"(?i)\b([\w-]*{NAMES}(?:\\*[\"'])?\s*[=:]\s*)(?:{QUOTED}|(?!\*)[^\s&\"',;]+)")
SCHEMES = re.compile(r"(?i)\b(bearer|basic|digest)\s+[^\s\"',;]+")
URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)([^\s\"'<>]*)")
SESSION = re.compile(r"(/v1/sessions/)[\w-]+")
LONG = re.compile(r"(?<![\w-])[\w-]{40,}(?![\w-])")  # a token, or a digest of one
BASE64 = re.compile(r"(?<![\w+/=-])(?=\S*[A-Z])(?=\S*[a-z])(?=\S*\d)[A-Za-z0-9+/]{40,}={0,2}(?![\w+/=-])")  # of a key
MAIL = re.compile(r"[\w.%+-]+@[\w-]+(?:\.[\w-]+)+")
ADDRESS = re.compile(r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*\w?)(?![\w.])")
HARDWARE = re.compile(r"(?i)(?<![\w:])(?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?![\w:])")

ROUTES = r"(?!/(?:v1|player|metrics|healthz|readyz|\*\*\*)(?![\w-]))"
WORD = r"[^\s\"'<>:;,|\\()\[\]{}/]+"
PATH = re.compile(
    rf"(?P<quote>[\"'])(?P<quoted>~?{ROUTES}/[^\"'\n]+)(?P=quote)"
    rf"|(?<![\w:/.*~-])~?{ROUTES}(?:/{WORD})+/?(?: (?:{WORD}/)+{WORD})*"  # a space in a folder's name
)
SYSTEM = re.compile(r"/(?:proc|sys|dev|usr|etc|lib\w*|run|opt/musetalk-edge|var/lib/musetalk-edge)(?:/|$)")
CODE = re.compile(r"/(?:(?:site|dist)-packages|python3\.\d+|musetalk_\w+)/.*")
AVATAR = re.compile(r"(?:\bavatar[\"']?[=:]\s*[\"']?|/avatars/|\bavatars/|-a[ =]?(?=[\w-]+=))([A-Za-z0-9][\w.-]*)")


def redact(text: str, names: Collection[str] = ()) -> str:
    """`text` without secrets and without what `without_places` leaves out.

    Secrets are tokens, passwords, keys, cookies, ids of sessions, addresses of mail and of machines other than this
    one, and of every URL more than its host.
    """
    names = {*names, *avatars_in(text)}
    text = PEM.sub("***", text)
    text = URL.sub(_host_only, text)
    text = HEADERS.sub(r"\1***", text)
    text = SCHEMES.sub(r"\1 ***", text)
    text = NAMED.sub(_unvalued, text)
    text = SESSION.sub(r"\1***", text)
    text = MAIL.sub("***", text)
    text = HARDWARE.sub("***", text)
    text = ADDRESS.sub(_other_machine, text)
    text = BASE64.sub("***", text)
    return LONG.sub("***", without_places(text, names))


def without_places(text: str, names: Collection[str] = ()) -> str:
    """`text` with local paths as their ending, unless they lead to code or the system, and without avatars' `names`."""
    text = PATH.sub(_ending, text)
    if names:
        text = re.sub(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])", "***", text)
    return text


def avatars_in(text: str) -> set[str]:
    """The names of avatars that `text` tells: in routes, folders, arguments and the fields of logs."""
    return {found.rstrip(".") for found in AVATAR.findall(text)} - {"null", "None", "current"}


def _host_only(found: re.Match[str]) -> str:
    """Where an @ could be within a password as well as before the host, not even that."""
    scheme, rest = found[1], found[2]
    end = re.search(r"[/?#]", rest)
    authority, path = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    if "@" in path or authority.count("@") > 1:
        return f"{scheme}***"
    return f"{scheme}{authority.rpartition('@')[2]}{'/***' if path else ''}"


def _unvalued(found: re.Match[str]) -> str:
    value = found[0][len(found[1]) :]
    quote = re.match(r"\\*[\"']|", value)[0]  # type: ignore[index]
    return f"{found[1]}{quote}***{quote}"


def _other_machine(found: re.Match[str]) -> str:
    with suppress(ValueError):
        address = ipaddress.ip_address(found[0])
        return found[0] if address.is_loopback or address.is_unspecified else "***"
    return found[0]


def _ending(found: re.Match[str]) -> str:
    quote, path = found["quote"] or "", found["quoted"] or found[0]
    if not SYSTEM.match(path):
        code = CODE.search(path)
        ending = re.search(r"\.[A-Za-z0-9]{1,8}$", path.rstrip("/"))
        path = f"/***{code[0] if code else ending[0] if ending else ''}"
    return f"{quote}{path}{quote}"
