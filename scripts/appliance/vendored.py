"""The native libraries that the wheels in a folder of site-packages hold, with their versions, licences and hashes."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PathDistribution, distributions
from pathlib import Path
from typing import Any

from libraries import LIBRARIES, LINKED_IN, OWN, Library

NAME = re.compile(r"lib(?P<name>.+?)(?P<hash>(-[0-9a-f]{8})+)?(?P<inside>[\d.]*)\.so(\.(?P<version>[\w.]+))?")
DEBUG_FILE = re.compile(rb"-(\d[\w.]*-\d[\w.]*\.el\d[\w.]*)\.(?:x86_64|aarch64)\.debug")  # Red Hat's versions are in it
FFMPEG_LICENCE = re.compile(rb"lib\w+ license: (L?GPL) version (\d(?:\.\d)?) or later")
MIN_MODULE_BYTES = 1_000_000  # of a module that may have whole libraries linked in
SAID, BUILDER, BILL, FILE_NAME = (
    "the library", "the name of its debug symbols", "the wheel's bill of materials", "the file's name"
)  # fmt: skip


@dataclass
class Vendored:
    """One library in the wheel `wheel`: `files` by their paths in site-packages, with their SHA-256 in hexadecimal.

    `source` says where the version was found; in a file's name it is that of its interface, as in ``so.7.0.0``. `purl`
    is that of the wheel's own bill of materials, where it has one.
    """

    wheel: str
    name: str
    version: str
    source: str
    licence: str | None = None
    cpe: str | None = None
    purl: str | None = None
    files: dict[str, str] = field(default_factory=dict)


def vendored(site: Path) -> list[Vendored]:
    """What the wheels in `site` hold, ordered by wheel and name. A library of several files is one."""
    found: list[Vendored] = []
    for wheel in distributions(path=[str(site)]):
        libraries: dict[str, Vendored] = {}
        for path in _native(wheel):
            for library in (*_shared(wheel.name, path), *_linked_in(wheel.name, path)):
                first = libraries.setdefault(library.name, library)
                if (library.source, first.source) == (SAID, FILE_NAME):  # of some libraries only one file says it
                    library.files, libraries[library.name] = first.files, library
                libraries[library.name].files[str(path.relative_to(site))] = _sha256(path)
        found += _with_own_bill(wheel, list(libraries.values()))
    return sorted(found, key=lambda library: (library.wheel, library.name, library.version))


def _native(wheel: PathDistribution) -> Iterator[Path]:
    for file in sorted(wheel.files or []):
        path = Path(str(wheel.locate_file(file)))
        if re.search(r"\.so(\.|$)", path.name) and path.is_file() and not path.is_symlink():
            yield path


def _shared(wheel: str, path: Path) -> Iterator[Vendored]:
    """The library that the file `path` is, if it is one, and not what the wheel itself is about."""
    parts = NAME.fullmatch(path.name)
    if not parts or re.fullmatch(OWN, parts["name"]):
        return
    known = next((one for one in LIBRARIES if re.fullmatch(one.files, parts["name"])), None)
    content = path.read_bytes()
    version, source = f"so.{parts['version'] or parts['inside'].strip('.')}".rstrip("."), FILE_NAME
    if said := DEBUG_FILE.search(content):
        version, source = said[1].decode(), BUILDER
    if known and known.version and (said := re.search(known.version, content)):
        version, source = said[1].decode(), SAID
    if known is None:
        yield Vendored(wheel, parts["name"], version, source)
    else:
        yield _of(known, wheel, version, source, _licence(known, content, version))


def _linked_in(wheel: str, path: Path) -> Iterator[Vendored]:
    if NAME.fullmatch(path.name) or path.stat().st_size < MIN_MODULE_BYTES:
        return
    content = path.read_bytes()
    for library in LINKED_IN:
        if said := re.search(library.version, content):
            yield _of(library, wheel, said[1].decode(), SAID, library.licence)


def _of(library: Library, wheel: str, version: str, source: str, licence: str) -> Vendored:
    plain = version.partition("-")[0].partition("+")[0]
    cpe = f"cpe:2.3:a:{library.cpe}:{plain}:*:*:*:*:*:*:*" if library.cpe and source != FILE_NAME else None
    return Vendored(wheel, library.name, version, source, licence, cpe)


def _licence(library: Library, content: bytes, version: str) -> str:
    """FFmpeg says what it was configured for; OpenSSL changed its licence with version 3."""
    if library.name == "ffmpeg" and (said := FFMPEG_LICENCE.search(content)):
        number = said[2].decode()
        return f"{said[1].decode()}-{number if '.' in number else f'{number}.0'}-or-later"
    return "OpenSSL" if library.name == "openssl" and version < "3" else library.licence


def _with_own_bill(wheel: PathDistribution, libraries: list[Vendored]) -> list[Vendored]:
    """`libraries` with the package URLs of the wheel's own bills (PEP 770), and what only they list, such as crates."""
    more = {}
    for part in _own_bill(wheel):
        if not part["purl"].startswith("pkg:pypi/") and not _claimed(part, libraries):
            own = Vendored(wheel.name, part["name"], part["version"], BILL, _expression(part), purl=part["purl"])
            more[own.purl] = own
    return [*libraries, *more.values()]


def _own_bill(wheel: PathDistribution) -> Iterator[dict[str, Any]]:
    """The components with a package URL, of all bills in CycloneDX that the wheel brings."""
    for file in sorted(wheel.files or []):
        if file.match("*.dist-info/sboms/*.json"):
            bill = json.loads(Path(str(wheel.locate_file(file))).read_text(encoding="utf-8"))
            yield from (part for part in bill.get("components", []) if part.get("purl"))


def _claimed(part: dict[str, Any], libraries: list[Vendored]) -> bool:
    """Whether one of `libraries` is this package of a distribution; then it has its version and package URL."""
    for library in libraries:
        gcc = library.name == "gcc-runtime" and re.match(r"lib(gfortran|gomp|stdc\+\+|gcc)", part["name"])
        same_name = gcc or library.name.removeprefix("lib").lower() in part["name"].lower()
        same_version = part["version"].startswith(library.version.partition("-")[0])
        if same_name and (same_version or library.source == FILE_NAME):
            library.version, library.purl = part["version"], part["purl"]
            library.source = BILL if library.source == FILE_NAME else library.source
            return True
    return False


def _expression(part: dict[str, Any]) -> str | None:
    for licence in part.get("licenses", []):
        one = licence.get("license", {})
        return str(licence.get("expression") or one.get("id") or one.get("name"))
    return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
