#!/usr/bin/env python3
"""What each extra of musetalk-edge weighs on x86-64 and aarch64: resolved, downloaded, unpacked.

    python scripts/weigh.py [--extras gpu,nvenc,serve ...] [--python 3.12] [--json FILE] > table.md

The dependencies of each set of extras are resolved by uv against the index that pip and uv are set up for, as of today;
their wheels are downloaded for the platform, whichever this machine is, and unpacked. A package that the index has no
wheel of for the platform is named. ``index`` marks sets that are resolved only, for they
bring PyTorch: the index tells the sizes of their wheels. Needs uv (extra ``dev``), Python 3.11 and up to 2 GB in the
temporary folder. Sizes are in MB of 10^6 bytes, without bytecode and without the CUDA driver's own libraries.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).parents[1]
ARCHITECTURES = ("x86_64", "aarch64")
GLIBC = "manylinux_2_35"  # Ubuntu 22.04, which JetPack 6 is; NVIDIA's aarch64 wheels are built for it
UNPACKED = ["", "cpu", "gpu", "gpu-lean", "gpu-rtx", "nvenc", "serve", "cpu,serve"]
UNPACKED += [f"{gpu},nvenc,serve" for gpu in ("gpu-lean", "gpu", "gpu-rtx")]
RESOLVED = ["engines", "engines-rtx", "export", "distill"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="+", help="sets of extras, as between pip's brackets (default: all)")
    parser.add_argument("--python", default="3.12", metavar="X.Y", help="(default: 3.12, as on DGX OS)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every package's figures there")
    args = parser.parse_args()
    weighed = []
    for extras in UNPACKED + RESOLVED if args.extras is None else args.extras:
        for architecture in ARCHITECTURES:
            print(f"[{extras}] on {architecture}", file=sys.stderr)
            unpack = args.extras is not None or extras in UNPACKED
            weighed.append(weigh(extras, architecture, args.python, unpack))
    if args.json:
        args.json.write_text(json.dumps(weighed, indent=1) + "\n", encoding="utf-8")
    print(markdown(weighed))


def weigh(extras: str, architecture: str, python: str, unpack: bool) -> dict[str, Any]:
    """The packages of one set of `extras`: name, version, bytes of the wheel, unpacked bytes (None: not unpacked)."""
    platform = ["--python-platform", f"{architecture}-{GLIBC}", "--python-version", python]
    packages = resolve(extras, platform)
    with tempfile.TemporaryDirectory() as folder:
        for package in packages:
            hashes = package.pop("hashes")
            if unpack:
                found = install(package, hashes, platform, Path(folder) / package["name"])
                package["unpacked_bytes"], package["note"] = found
    return {"extras": extras, "architecture": architecture, "python": python, "packages": packages}


def resolve(extras: str, platform: list[str]) -> list[dict[str, Any]]:
    requirement = f"musetalk-edge[{extras}] @ {ROOT.as_uri()}" if extras else f"musetalk-edge @ {ROOT.as_uri()}"
    done = uv("compile", "-", *platform, "--format", "pylock.toml", "--no-annotate", stdin=requirement)
    if done.returncode:
        sys.exit(f"uv does not resolve {requirement}: {done.stderr}")
    return [described(package) for package in tomllib.loads(done.stdout)["packages"]]


def described(package: dict[str, Any]) -> dict[str, Any]:
    wheels = package.get("wheels", [])
    return {
        "name": package["name"],
        "version": package.get("version", "this checkout"),
        "wheel_bytes": max((wheel["size"] for wheel in wheels), default=None),  # the compiled one of two that fit
        "hashes": [wheel["hashes"]["sha256"] for wheel in wheels],
        "unpacked_bytes": None,
        "note": "",
    }


def install(package: dict[str, Any], hashes: list[str], platform: list[str], folder: Path) -> tuple[int | None, str]:
    """Unpack `package` into `folder`; its bytes there, or None and why the index cannot give it."""
    name, version = package["name"], package["version"]
    if version == "this checkout":
        line = f"{name} @ {ROOT.as_uri()}"
    else:
        line = " ".join([f"{name}=={version}", *(f"--hash=sha256:{digest}" for digest in hashes)])
    done = uv("install", "--target", str(folder), *platform, "--no-deps", "-r", "-", stdin=line)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return None, "no wheel on the index, and its source distribution does not install"
    files = [file for found in distributions(path=[str(folder)]) for file in found.files or []]
    size = sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())
    return size, "" if package["wheel_bytes"] else "built from its source distribution"


def uv(command: str, *arguments: str, stdin: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "uv", "--no-python-downloads", "pip", command, "--quiet", *arguments]
    return subprocess.run(line, input=stdin, capture_output=True, text=True, check=False)


def markdown(weighed: list[dict[str, Any]]) -> str:
    """A line for each set of extras: MB to download and unpacked, on each architecture; notes below."""
    lines = [
        "| extras | packages | download, x86-64 | unpacked, x86-64 | download, aarch64 | unpacked, aarch64 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for extras in dict.fromkeys(entry["extras"] for entry in weighed):
        entries = [entry for entry in weighed if entry["extras"] == extras]
        counts = "/".join(dict.fromkeys(str(len(entry["packages"])) for entry in entries))
        cells = [cell for entry in entries for cell in totals(entry["packages"])]
        lines.append(f"| {f'`{extras}`' if extras else 'none'} | {counts} | {' | '.join(cells)} |")
    notes = [
        f"- {package['name']} {package['version']}, {entry['architecture']}: {package['note']}"
        for entry in weighed
        for package in entry["packages"]
        if package["note"].startswith("no wheel")
    ]
    return "\n".join([*lines, "", *dict.fromkeys(notes)])


def totals(packages: list[dict[str, Any]]) -> list[str]:
    download = sum(package["wheel_bytes"] or 0 for package in packages)
    if all(package["unpacked_bytes"] is None for package in packages):
        return [f"{download / 1e6:.1f} MB (index)", "-"]
    missing = [package["name"] for package in packages if package["unpacked_bytes"] is None]
    unpacked = sum(package["unpacked_bytes"] or 0 for package in packages)
    without = f" without {', '.join(missing)}" if missing else ""
    return [f"{download / 1e6:.1f} MB{without}", f"{unpacked / 1e6:.1f} MB{without}"]


if __name__ == "__main__":
    main()
