"""The bill of materials of a root filesystem: Debian and Python packages, and what wheels hold, as CycloneDX."""

import os
import re
import uuid
from datetime import datetime, timezone
from email.parser import HeaderParser
from importlib.metadata import PathDistribution, distributions
from pathlib import Path

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from vendored import FILE_NAME, Vendored, vendored

MAX_LICENCE_NAME = 60  # characters


def write_sbom(root: Path, site: Path, file: Path) -> None:
    """Write what is installed in `root` and, of Python, in `site` to `file`: the same bytes for the same packages.

    Raises ValueError where CycloneDX's schema does not take it.
    """
    python = {component.name: component for component in _python(site)}
    inside = [(python[_normal(library.wheel)], _library(library)) for library in vendored(site)]
    components = [*_debian(root), *python.values(), *(library for _, library in inside)]
    subject = next(component for component in components if component.name == "musetalk-edge")
    at = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), timezone.utc)
    names = "\n".join(sorted(str(component.bom_ref) for component in components))
    bom = Bom(
        components=[component for component in components if component is not subject],
        metadata=BomMetaData(component=subject, timestamp=at),
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, names),
    )
    direct = {re.split("[^a-z0-9-]", line.lower().replace("_", "-"))[0] for line in requires("musetalk-edge", site)}
    bom.register_dependency(subject, [component for name, component in python.items() if name in direct])
    for wheel, library in inside:
        bom.register_dependency(wheel, [library])
    text = JsonV1Dot6(bom).output_as_string(indent=1) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"{file}: not CycloneDX: {error}")
    file.write_text(text, encoding="utf-8")


def requires(name: str, site: Path) -> list[str]:
    """What the Python package `name` in `site` asks for, with the extras' dependencies."""
    return [line for found in distributions(name=name, path=[str(site)]) for line in found.requires or []]


def debian_packages(root: Path) -> dict[str, dict[str, str]]:
    """The fields of every package installed in `root`, by its name."""
    text = (root / "var/lib/dpkg/status").read_text(encoding="utf-8")
    found = [dict(HeaderParser().parsestr(entry)) for entry in text.split("\n\n") if entry.strip()]
    return {entry["Package"]: entry for entry in found if entry["Status"] == "install ok installed"}


def _debian(root: Path) -> list[Component]:
    system = dict(
        line.split("=", 1) for line in (root / "etc/os-release").read_text(encoding="utf-8").splitlines() if "=" in line
    )
    distribution = system["ID"].strip('"')
    return [
        _component(name, entry["Version"], PackageURL(
            "deb", distribution, name, entry["Version"], {"arch": entry["Architecture"]}))
        for name, entry in debian_packages(root).items()
    ]  # fmt: skip


def _python(site: Path) -> list[Component]:
    components = []
    for found in distributions(path=[str(site)]):
        name = _normal(found.name)
        component = _component(name, found.version, PackageURL("pypi", None, name, found.version))
        if text := _licence(found):
            component.licenses.add(LicenseFactory().make_from_string(text))
        components.append(component)
    return components


def _licence(found: PathDistribution) -> str | None:
    """Its expression, or what older metadata has in its place; some have the whole text there."""
    text = found.metadata.get("License-Expression") or found.metadata.get("License") or ""
    return text if text and len(text) <= MAX_LICENCE_NAME and "\n" not in text else None


def _library(found: Vendored) -> Component:
    """A library in a wheel, with the hashes of its files."""
    version = None if found.source == FILE_NAME else found.version
    purl = PackageURL.from_string(found.purl) if found.purl else PackageURL("generic", None, found.name, version)
    component = Component(
        name=found.name,
        version=found.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        cpe=found.cpe,
        bom_ref=f"{_normal(found.wheel)}#{purl}",
        properties=[Property(name="musetalk-edge:version-from", value=found.source)],
        components=[
            Component(name=path, type=ComponentType.FILE, bom_ref=f"{_normal(found.wheel)}#{found.name}#{path}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)])
            for path, sha256 in found.files.items()
        ],
    )  # fmt: skip
    if found.licence:
        component.licenses.add(LicenseFactory().make_from_string(found.licence))
    return component


def _normal(name: str) -> str:
    """The name of a Python package as package URLs have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _component(name: str, version: str, purl: PackageURL) -> Component:
    return Component(name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl))
