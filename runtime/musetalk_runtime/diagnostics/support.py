"""The support file: what a machine has, what was built, what a service logged and counted.

It holds text alone, and no audio, frames, latents or tokens. Logs go through `redact`, which also leaves out addresses,
local paths and the names of avatars.
"""

import http.client
import io
import json
import platform
import subprocess
import tarfile
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from musetalk_runtime.bundle import BUNDLE_KIND
from musetalk_runtime.core.errors import InvalidArgument, MuseTalkEdgeError
from musetalk_runtime.diagnostics.doctor import Finding, to_json
from musetalk_runtime.diagnostics.redact import avatars_in, redact, without_places
from musetalk_runtime.storage.current import CURRENT
from musetalk_runtime.storage.destination import Destination
from musetalk_runtime.storage.folder import MANIFEST, MAX_MANIFEST_BYTES, kind_of
from musetalk_runtime.storage.output_file import write_output

UNIT = "musetalk-edge"
LOG_BYTES, ANSWER_BYTES, LINES = 2 << 20, 1 << 20, "20000"
PLAIN_NAMES = {"", "avatar", "avatars", "demo", CURRENT}  # of nobody
SERVICE_TIMEOUT_S = 5.0  # seconds to wait for the service
MACHINE = ("/etc/os-release", "/proc/version", "/proc/meminfo", "/proc/driver/nvidia/version", "/etc/nv_tegra_release")
README = "Made by 'musetalk-edge doctor --support'. It holds no audio, pictures or tokens; look before you send it.\n"


def write_support(
    file: Path,
    findings: Sequence[Finding],
    folders: Iterable[Path],
    service: tuple[str, int],
    log: Path | None,
    token: str | None,
) -> list[str]:
    """Write `findings`, the manifests of the bundles and avatars in `folders`, the last of `log` (None: the journal of
    the unit) and the metrics of the `service` at (host, port), asked with `token`, to `file`; gives what is in it.

    What cannot be had is noted in its place. Raises OutputError, and InvalidArgument if `file` leads to a file that
    exists.
    """
    place = Destination(file)
    if place.plain and place.found:
        raise InvalidArgument(f"{file} exists: choose another name")
    folders = list(folders)
    names = {name for folder in folders for name in _names(folder)}
    log_text = _last_of(log) if log else _journal()
    answers = {f"service{path}.txt": _ask(service, path, token) for path in ("/readyz", "/metrics")}
    names |= avatars_in("\n".join((log_text, *answers.values()))) - PLAIN_NAMES
    content = {
        "README.txt": README,
        "doctor.json": json.dumps(_placeless(to_json(list(findings)), names), indent=1),
        "packages.txt": "".join(sorted(f"{found.name} {found.version}\n" for found in distributions())),
        "machine.txt": f"{platform.platform()}\n" + "".join(map(_machine, MACHINE)),
        "log.txt": redact(log_text, names),
        **{name: redact(text, names) for name, text in answers.items()},
    }
    for number, folder in enumerate(folders, 1):
        content |= _manifests(folder, f"folders/{number}", names)
    write_output(file, _packed(file.name.partition(".")[0], content), 0o600)
    return sorted(content)


def _packed(folder: str, content: dict[str, str]) -> bytes:
    """A compressed archive of `content`, by name, in one `folder`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in content.items():
            data = text.encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime = len(data), int(time.time())
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _names(folder: Path) -> set[str]:
    """What may tell whose face an avatar is: its folder's name, or that of the folder of its versions."""
    with suppress(MuseTalkEdgeError):
        if kind_of(folder) == BUNDLE_KIND:
            return set()
    found = folder.resolve()
    named = found.parent if found.name.isdigit() else found
    return {named.name, named.stem} - PLAIN_NAMES


def _placeless(value: Any, names: Collection[str]) -> Any:
    """JSON whose texts hold no local path, and none of the `names`."""
    if isinstance(value, dict):
        return {without_places(key, names): _placeless(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_placeless(part, names) for part in value]
    return without_places(value, names) if isinstance(value, str) else value


def _manifests(folder: Path, where: str, names: Collection[str]) -> dict[str, str]:
    """The manifest of a bundle or avatar, and of a current version also what is known of it."""
    content = {f"{where}/{MANIFEST}": _json(_text(folder / MANIFEST, MAX_MANIFEST_BYTES), names)}
    if folder.name == CURRENT and folder.is_symlink():
        for record in sorted(folder.parent.glob("[0-9]*.json"))[:10]:
            content[f"{where}/{record.name}"] = _json(_text(record, 1 << 10), names)
        content[f"{where}/{CURRENT}"] = f"{without_places(str(folder.readlink()), names)}\n"
    return content


def _json(text: str, names: Collection[str]) -> str:
    """Its long words are kept if it is JSON, since they are digests; else only what can be said of it is."""
    try:
        return json.dumps(_placeless(json.loads(text), names), indent=1)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}\n{redact(text[:1000], names)}\n"


def _text(file: Path, limit: int) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(limit).decode("utf-8", "replace")
    except OSError as error:
        return f"not there: {error.strerror}"


def _machine(path: str) -> str:
    return f"\n{path}\n{_text(Path(path), 1 << 14)}\n"


def _last_of(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - LOG_BYTES - 1))
            return _last_lines(stream.read(LOG_BYTES + 1))
    except OSError as error:
        return f"{log}: cannot be read: {error.strerror}"


def _journal() -> str:
    command = ["journalctl", "--unit", f"{UNIT}*", "--lines", LINES, "--no-pager", "--no-hostname"]
    command += ["--output", "short-iso"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"no journal: {error}"
    return _last_lines(done.stdout or done.stderr)


def _last_lines(log: bytes) -> str:
    """At most LOG_BYTES, from the beginning of a line: half a token would not be known for one."""
    if len(log) > LOG_BYTES:
        log = log[-LOG_BYTES - 1 :].partition(b"\n")[2]
    return log.decode("utf-8", "replace")


def _ask(service: tuple[str, int], path: str, token: str | None) -> str:
    headers: dict[str, Any] = {"Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPConnection(*service, timeout=SERVICE_TIMEOUT_S)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return f"status {answer.status}\n{answer.read(ANSWER_BYTES).decode('utf-8', 'replace')}"
    except (OSError, http.client.HTTPException) as error:
        return f"not there: {error}"
    finally:
        connection.close()
