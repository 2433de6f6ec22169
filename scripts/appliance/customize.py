"""What mmdebstrap's hook does to a root filesystem: Python packages, user and state; and what lies unused goes."""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import distributions
from pathlib import Path

from sbom import debian_packages, write_sbom

HERE = Path(__file__).resolve().parent
SITE = "opt/musetalk-edge/lib"
STATE = "var/lib/musetalk-edge"
SHOWN = "usr/share/musetalk-edge"
LICENCES = "usr/share/doc/copyright.tar.xz"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
WITH_SYMBOLS = ("av/**/*.so", "cv2/*.so", "uvloop/*.so")  # strip breaks libraries that auditwheel packed (*.libs)
UNITS = HERE / "systemd"
OLD = ("var/cache/debconf/config.dat-old", "var/cache/debconf/templates.dat-old")
LAUNCHER = """\
#!/usr/bin/python3 -I
import sys

from musetalk_runtime.cli.main import main

sys.exit(main())
"""
FSTAB = f"""\
# The root stays read-only. What changes lies on the file system labelled musetalk-edge, and in memory.
LABEL=musetalk-edge /{STATE} auto rw,nosuid,nodev,nofail 0 2
tmpfs /tmp tmpfs nosuid,nodev,size=256M 0 0
tmpfs /var/tmp tmpfs nosuid,nodev,size=64M 0 0
"""
FILES = {
    "opt/musetalk-edge/bin/musetalk-edge": LAUNCHER,
    "usr/lib/python3/dist-packages/musetalk-edge.pth": f"/{SITE}\n",  # for the workers, which are python3 -m too
    "etc/fstab": FSTAB,
    "etc/hostname": "musetalk-edge\n",
    "etc/hosts": "127.0.0.1 localhost musetalk-edge\n::1 localhost ip6-localhost ip6-loopback\n",
    "etc/systemd/journald.conf.d/volatile.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n",
    "usr/lib/tmpfiles.d/musetalk-edge.conf": f"d /{STATE} 0750 musetalk-edge musetalk-edge\n",  # of a new file system
    "usr/lib/sysusers.d/musetalk-edge.conf": (
        f'u musetalk-edge 990 "musetalk-edge" /{STATE}\nm musetalk-edge systemd-journal\n'  # doctor --support reads it
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--strip", required=True)
    parser.add_argument("--wheels", type=Path, nargs="+", required=True)
    parser.add_argument("--root", type=Path, required=True)
    args = parser.parse_args()
    root = args.root
    install(root, HERE / f"{args.variant}.txt", args.wheels, args.strip)
    prune(root)
    configure(root)
    pack_licences(root)
    write_sbom(root, root / SITE, root / SHOWN / "sbom.cdx.json")
    (root / SHOWN / "sizes.json").write_text(json.dumps(sizes(root), indent=1) + "\n", encoding="utf-8")


def install(root: Path, lock: Path, wheels: list[Path], strip: str) -> None:
    """Into SITE: the packages that `lock` pins, checked against its hashes, and `wheels`, which come before those."""
    packages = debian_packages(root)
    machine = MACHINES[packages["dpkg"]["Architecture"]]
    glibc = "_".join(re.findall(r"\d+", packages["libc6"]["Version"])[:2])
    python = re.match(r"\d+\.\d+", packages["python3"]["Version"])
    assert python  # noqa: S101
    command = [sys.executable, "-m", "uv", "--no-python-downloads", "pip", "install", "--quiet", "--no-deps"]
    command += ["--link-mode", "copy", "--target", str(root / SITE)]
    command += ["--python-platform", f"{machine}-manylinux_{glibc}", "--python-version", python[0]]
    given = {wheel.name.split("-")[0].replace("_", "-") for wheel in wheels}
    entries = re.split(r"\n(?=[a-z])", lock.read_text(encoding="utf-8"))
    pinned = "\n".join(entry for entry in entries if entry.split("==")[0] not in given)
    hashed = ["--require-hashes", "--build-constraints", str(HERE / "build.txt"), "-r", "-"]
    subprocess.run([*command, *hashed], input=pinned, text=True, check=True)
    subprocess.run([*command, *map(str, wheels)], check=True)
    shutil.rmtree(root / SITE / "bin")
    modules = [str(file) for pattern in WITH_SYMBOLS for file in (root / SITE).glob(pattern)]
    subprocess.run([strip, "--strip-unneeded", "--", *modules], check=True)


def prune(root: Path) -> None:
    """Remove what the patterns in ``prune.txt`` match, and leave it out of the packages' records."""
    for line in (HERE / "prune.txt").read_text(encoding="utf-8").splitlines():
        pattern = line.partition("#")[0].strip()
        for path in sorted((root / SITE).glob(pattern)) if pattern else []:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for record in sorted((root / SITE).glob("*.dist-info/RECORD")):
        with record.open(newline="", encoding="utf-8") as opened:
            kept = [row for row in csv.reader(opened) if (root / SITE / row[0]).exists()]
        with record.open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened, lineterminator="\n").writerows(kept)


def configure(root: Path) -> None:
    """Launcher, user, state folder and mounts; bytecode, which a read-only root cannot take later."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    (root / "opt/musetalk-edge/bin/musetalk-edge").chmod(0o755)
    (root / STATE).mkdir(mode=0o750)
    inside = ["chroot", str(root)]
    subprocess.run([*inside, "systemd-sysusers"], check=True)
    subprocess.run([*inside, "chown", "musetalk-edge:musetalk-edge", f"/{STATE}"], check=True)
    compiled = ["python3", "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", f"/{SITE}"]
    subprocess.run([*inside, *compiled], check=True)
    install_units(root)
    for name in ("etc/resolv.conf", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", *OLD):
        (root / name).unlink(missing_ok=True)


def install_units(root: Path) -> None:
    """The units, enabled, with what they run; until a maker puts his own in SHOWN, the demo is model and face."""
    units = sorted(UNITS.glob("*.service"))
    for unit in units:
        shutil.copy(unit, root / "usr/lib/systemd/system")
    subprocess.run(["chroot", str(root), "systemctl", "--quiet", "enable", *(unit.name for unit in units)], check=True)
    (root / SHOWN / "avatars").mkdir(parents=True, exist_ok=True)
    for name, part in (("cpu.bundle", "bundle"), ("avatars/anna", "avatar")):
        (root / SHOWN / name).symlink_to(f"/{SITE}/musetalk_runtime/demo_data/{part}")


def pack_licences(root: Path) -> None:
    """The copyright files of Debian's packages, in one archive: some licences want to be handed on with the program."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = int(os.environ["SOURCE_DATE_EPOCH"])
        return entry

    folder = root / "usr/share/doc"
    with tarfile.open(root / LICENCES, "w:xz", preset=9) as archive:
        for file in sorted(folder.glob("*/copyright")):
            archive.add(file, str(file.relative_to(folder)), filter=plain)
    for package in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        shutil.rmtree(package)


def sizes(root: Path) -> dict[str, object]:
    """Bytes of all, of the parts, and of each Python package."""
    packages = {found.name: 0 for found in distributions(path=[str(root / SITE)])}
    for found in distributions(path=[str(root / SITE)]):
        owned = {(root / SITE / file).resolve() for file in found.files or []}
        compiled = {Path(str(file.parent / "__pycache__" / file.stem)) for file in owned if file.suffix == ".py"}
        caches = {
            cache for file in compiled if file.parent.is_dir() for cache in file.parent.glob(f"{file.name}.*.pyc")
        }
        packages[found.name] = sum(file.stat().st_size for file in owned | caches if file.is_file())
    files = {part: weight(root, part) for part in (SITE, "usr/lib/systemd", "etc", "opt", "usr", "var/lib/dpkg")}
    interpreter = sum(weight(root, f"usr/lib/{part.name}") for part in (root / "usr/lib").glob("python3*"))
    total = sum(files[part] for part in ("etc", "opt", "usr", "var/lib/dpkg"))
    ordered = dict(sorted(packages.items(), key=lambda item: -item[1]))
    parts = {
        "musetalk-edge and its packages": files[SITE],
        "Python's library": interpreter,
        "systemd": files["usr/lib/systemd"],
    }
    parts["Debian, the rest"] = total - sum(parts.values())
    return {"total": total, "parts": parts, "python_packages": ordered}


def weight(root: Path, part: str) -> int:
    """Bytes of the files under `part`, each counted once."""
    seen = {}
    for folder, _, files in os.walk(root / part):
        for name in files:
            status = (Path(folder) / name).lstat()
            seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())


if __name__ == "__main__":
    main()
