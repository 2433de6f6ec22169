"""States of a device's disk: two versions of a bundle and of an avatar, and what may have become of them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from musetalk_runtime.storage.folder import MANIFEST

State = Callable[[Path], object]


def write_two_versions(state: Path, bundle: Path, avatar: Path) -> None:
    """In `state`, as ``musetalk-edge update`` leaves them; the second is current."""
    for name, source in (("bundles/student", bundle), ("avatars/anna", avatar)):
        for number in "12":
            shutil.copytree(source, state / name / number)
            (state / name / f"{number}.json").write_text(json.dumps({"previous": 1 if number == "2" else None}))
        (state / name / "current").symlink_to("2")
        (state / name / "lock").touch()


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def instead(path: Path, content: bytes = b"") -> None:
    """A file in the place of whatever is at `path`."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def linked(link: Path, target: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_both(change: Callable[[Path, str], object]) -> State:
    """`change` on the versions of the bundle and on those of the avatar, with the name of a large file in each."""
    files = {"bundles/student": "generator.onnx.data", "avatars/anna": "frames.mp4"}
    return lambda state: [change(state / name, file) for name, file in files.items()]


EACH: dict[str, Callable[[Path, str], object]] = {
    "a byte is another": lambda path, file: flipped(path / "2" / file),
    "a file is cut": lambda path, file: os.truncate(path / "2" / file, 1000),
    "a file is empty": lambda path, file: os.truncate(path / "2" / file, 0),
    "a file is missing": lambda path, file: (path / "2" / file).unlink(),
    "the manifest is empty": lambda path, _: os.truncate(path / "2" / MANIFEST, 0),
    "the version is missing": lambda path, _: shutil.rmtree(path / "2"),
    "the version is a file": lambda path, _: instead(path / "2"),
    "all versions are damaged": lambda path, file: [flipped(path / number / file) for number in "12"],
    "all versions are missing": lambda path, _: [shutil.rmtree(path / number) for number in "12"],
    "the link is missing": lambda path, _: (path / "current").unlink(),
    "the link is an empty file": lambda path, _: instead(path / "current"),
    "the link is a folder": lambda path, _: folder_instead(path / "current"),
    "the link leads nowhere": lambda path, _: linked(path / "current", "7"),
    "the link leads outside": lambda path, _: linked(path / "current", "../../.."),
    "the link leads to /": lambda path, _: linked(path / "current", "/"),
    "the link leads to itself": lambda path, _: linked(path / "current", "current"),
    "a record is no JSON": lambda path, _: instead(path / "2.json", b"\xff{"),
    "a record is a folder": lambda path, _: folder_instead(path / "2.json"),
    "the lock is a folder": lambda path, _: folder_instead(path / "lock"),
    "the versions are a file": lambda path, _: instead(path),
    "the folder above is a file": lambda path, _: instead(path.parent),
    "the folder above is a link to nothing": lambda path, _: [shutil.rmtree(path.parent), linked(path.parent, "no")],
    "something was left half written": lambda path, _: (path / ".3.abc.partial").mkdir(),
}
STATES: dict[str, State] = {
    **{what: of_both(change) for what, change in EACH.items()},
    "nothing": shutil.rmtree,
    "the state is a file": instead,
    "a new bundle is an avatar": lambda state: shutil.copytree(state / "avatars/anna/2", state / "new.bundle"),
    "a new bundle is a file": lambda state: instead(state / "new.bundle", b"?"),
    "an avatar of a strange name": lambda state: (state / "avatars" / "a b").mkdir(),
    "an avatar that is none": lambda state: (state / "avatars" / "bob").mkdir(),
}
