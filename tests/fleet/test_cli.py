"""``musetalk-edge fleet``, as far as it goes without Ray."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from musetalk_runtime.cli.main import main
from musetalk_runtime.fleet.registry import Registry
from musetalk_runtime.storage.folder import MANIFEST, sha256


def test_a_bundle_and_an_avatar_are_published(
    bundle: Path, avatar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    assert main(["fleet", "publish", store, "bundle", "student", str(bundle)]) == 0
    assert main(["fleet", "publish", store, "avatar", "anna", str(avatar), "--copies", "2"]) == 0
    assert sha256(avatar / MANIFEST) in capsys.readouterr().err
    registry = Registry(store)
    assert registry.current("bundle", "student") == sha256(bundle / MANIFEST)
    assert registry.copies("anna") == 2
    for wrong in (
        ["bundle", "anna", str(avatar)],
        ["bundle", "student", str(bundle), "--copies", "2"],
        ["avatar", "a/b", str(avatar)],
        ["avatar", "anna", str(tmp_path / "nowhere")],
    ):
        assert main(["fleet", "publish", store, *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("what", ["head", "device"])
def test_ray_takes_addresses_and_no_names(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fleet", what, "--secret", "secret", "--ray-host", "gb10-1.local"])
    assert "--ray-host: 'gb10-1.local': expected an IP address" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is here")
@pytest.mark.parametrize("what", [["head"], ["device", "a"], ["drain", "a"]])
def test_without_ray_it_says_what_to_install(
    what: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 32)
    assert main(["fleet", *what, "--secret", str(tmp_path / "secret")]) == 3
    assert "pip install 'musetalk-edge[fleet]'" in capsys.readouterr().err
