"""A short run of scripts/faults/power_cuts.py: whatever is killed, and wherever, the device still starts."""

import importlib.util
import random
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from helpers.paths import ROOT
from musetalk_runtime.core.errors import InvalidFolder


@pytest.fixture(scope="module")
def power_cuts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("power_cuts", ROOT / "scripts/faults/power_cuts.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_after_every_cut_the_device_starts(
    power_cuts: ModuleType, modelset: Path, bundle: Path, tmp_path: Path
) -> None:
    device = power_cuts.Device(tmp_path, modelset, bundle)
    chance = random.Random(3)  # noqa: S311
    report = power_cuts.cut(device, 6, chance, False, ("prepare", "update", "provision"), damage=True)
    assert report["failures"] == []
    assert report["cuts"] == report["whole"] == report["started"] == 6
    assert sum(sum(counts.values()) for counts in report["outcomes"].values()) == 6
    assert sum(report["damages"].values()) >= 8
    (device.bundles.path / "current" / "generator.onnx").write_bytes(b"")
    with pytest.raises(InvalidFolder, match=r"generator\.onnx: 0 bytes"):
        device.state()
    shutil.rmtree(device.root)
