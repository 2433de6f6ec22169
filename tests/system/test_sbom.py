"""The bill of materials: the libraries that real wheels hold, and an image's bill and licences."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from helpers.appliance import BUILDS, SCRIPTS, unpacked

WHEELS = ("av", "numpy", "opencv-python-headless", "onnxruntime", "pydantic_core")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels that are installed here, as links: what else is installed would take long to read."""
    folder = tmp_path_factory.mktemp("site")
    for name in WHEELS:
        for top in {Path(file).parts[0] for file in distribution(name).files or []} - {".."}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(sysconfig.get_path("purelib")) / top)
    return folder


@pytest.fixture(scope="module")
def found(site: Path) -> Iterator[list[Any]]:
    """What ``scripts/appliance/vendored.py`` says of them."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        from vendored import vendored

        yield vendored(site)
    finally:
        sys.path.remove(str(SCRIPTS))


def test_every_library_of_a_wheel_is_listed(found: list[Any], site: Path) -> None:
    files = {path: sha256 for library in found for path, sha256 in library.files.items()}
    present = [path.relative_to(site) for path in site.glob("*.libs/*.so*")]
    assert present
    for path in present:
        assert files[str(path)] == hashlib.sha256((site / path).read_bytes()).hexdigest()
    pinned = set(re.findall(r"^([\w-]+)==([\w.]+)", (SCRIPTS / "cpu.txt").read_text(), re.MULTILINE))
    for library in found:
        assert library.version, library
        wheel = library.wheel.lower().replace("_", "-"), distribution(library.wheel).version
        if wheel in pinned:  # another may hold what nobody has looked at yet
            assert library.licence, library


def test_versions_and_licences_are_the_libraries_own(found: list[Any]) -> None:
    from av import ffmpeg_version_info, library_versions

    named = {(library.wheel, library.name): library for library in found}
    ffmpeg = named["av", "ffmpeg"]
    assert ffmpeg.version == ffmpeg_version_info
    assert ffmpeg.cpe == f"cpe:2.3:a:ffmpeg:ffmpeg:{ffmpeg.version}:*:*:*:*:*:*:*"
    assert len(ffmpeg.files) == len(library_versions)
    for name in ("x264", "x265"):  # which come with PyPI's PyAV
        assert named["av", name].licence == "GPL-2.0-or-later"
    assert named["numpy", "openblas"].source == "the library"
    crates = [library.purl for library in found if library.wheel == "pydantic_core"]  # by the wheel's own bill
    assert crates
    assert all(purl.startswith("pkg:cargo/") for purl in crates)


@BUILDS
@pytest.mark.appliance
@pytest.mark.timeout(1800)
def test_a_scanner_finds_what_an_image_holds(image: Path, root: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (image / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    hashes = {
        file["name"]: file["hashes"][0]["content"] for part in bom["components"] for file in part.get("components", [])
    }
    site = root / "opt/musetalk-edge/lib"
    for path in site.glob("*.libs/*.so*"):
        assert hashes[str(path.relative_to(site))] == hashlib.sha256(path.read_bytes()).hexdigest()
    inside = {ref["ref"]: ref.get("dependsOn", []) for ref in bom["dependencies"]}
    (wheel,) = [ref for ref in inside if ref.startswith("pkg:pypi/av@")]
    assert any(ref.startswith("av#pkg:generic/ffmpeg@") for ref in inside[wheel])
    assert all(part["purl"] for part in bom["components"])
    assert not [part for part in bom["components"] if part["purl"].startswith("pkg:pypi") and not part.get("licenses")]


@BUILDS
@pytest.mark.appliance
def test_an_image_holds_its_licences(root: Path) -> None:
    with tarfile.open(root / "usr/share/doc/copyright.tar.xz") as archive:
        kept = {name.partition("/")[0] for name in archive.getnames()}
        assert all(entry.isfile() or entry.issym() for entry in archive)
    for line in (root / "var/lib/dpkg/status").read_text().splitlines():
        if line.startswith("Package: "):
            package = line.removeprefix("Package: ")
            link = root / "usr/share/doc" / package
            assert (str(link.readlink()) if link.is_symlink() else package) in kept
    assert {"GPL-2", "GPL-3", "LGPL-2.1", "LGPL-3"} <= {
        path.name for path in (root / "usr/share/common-licenses").iterdir()
    }
    assert not (root / "usr/share/perl").exists()  # 46 MB that only usrmerge needs


@BUILDS
def test_an_image_for_a_cpu_keeps_its_encoder(tmp_path: Path) -> None:
    wheel = tmp_path / "av-1.0-cp311-abi3-linux_x86_64.whl"
    wheel.touch()
    command = [SCRIPTS / "build", "-o", tmp_path / "image", "--av", wheel]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "an image for a CPU encodes no video" in done.stderr) == (2, True)
    assert not (tmp_path / "image").exists()


@BUILDS
@pytest.mark.appliance
@pytest.mark.timeout(1800)
@pytest.mark.skipif("AV_WHEEL" not in os.environ, reason="needs the wheel that scripts/appliance/pyav makes: AV_WHEEL")
def test_an_image_without_x264_says_what_it_needs(tmp_path: Path) -> None:
    command = [SCRIPTS / "build", "-o", tmp_path / "image", "--variant", "gpu-rtx", "--av", os.environ["AV_WHEEL"]]
    subprocess.run(command, capture_output=True, check=True)
    bom = json.loads((tmp_path / "image" / "sbom.cdx.json").read_text())
    parts = {part["bom-ref"].partition("@")[0]: part for part in bom["components"]}
    assert parts["av#pkg:generic/ffmpeg"]["licenses"] == [{"license": {"id": "LGPL-2.1-or-later"}}]
    assert not {part["name"] for part in parts.values()} & {"x264", "x265"}
    assert json.loads((tmp_path / "image" / "sizes.json").read_text())["python_packages"]["av"] < 50e6
    (tmp_path / "state").mkdir()
    enter = [SCRIPTS / "enter", unpacked(tmp_path / "image"), tmp_path / "state", "musetalk-edge"]
    if not shutil.which("nvidia-smi"):
        done = subprocess.run([*enter, "doctor"], capture_output=True, text=True)
        assert "failure  x264         this PyAV was built without libx264" in done.stdout
    webm = ["stream", "--fps", "5", "-o", "/var/lib/musetalk-edge/talk.webm"]
    done = subprocess.run([*enter, *webm], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "state" / "talk.webm").stat().st_size > 100_000
