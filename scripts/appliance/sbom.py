"""The bill of materials of a root filesystem: its Debian and Python packages, as CycloneDX."""

import os
import re
import uuid
from datetime import datetime, timezone
from email.parser import HeaderParser
from importlib.metadata import PathDistribution, distributions
from pathlib import Path

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def write_sbom(root: Path, site: Path, file: Path) -> None:
    """Write what is installed in `root` and, of Python, in `site` to `file`: the same bytes for the same packages."""
    components = [*_debian(root), *_python(site)]
    subject = next(component for component in components if component.name == "musetalk-edge")
    at = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), timezone.utc)
    names = "\n".join(sorted(str(component.purl) for component in components))
    bom = Bom(
        components=[component for component in components if component is not subject],
        metadata=BomMetaData(component=subject, timestamp=at),
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, names),
    )
    direct = {re.split("[^a-z0-9-]", line.lower().replace("_", "-"))[0] for line in requires("musetalk-edge", site)}
    bom.register_dependency(subject, [component for component in bom.components if component.name in direct])
    file.write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n", encoding="utf-8")


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
        name = found.name.lower().replace("_", "-")
        component = _component(name, found.version, PackageURL("pypi", None, name, found.version))
        if text := _licence(found):
            component.licenses.add(LicenseFactory().make_from_string(text))
        components.append(component)
    return components


def _licence(found: PathDistribution) -> str | None:
    return found.metadata.get("License-Expression")


def _component(name: str, version: str, purl: PackageURL) -> Component:
    return Component(name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl))
