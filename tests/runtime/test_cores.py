"""The cores that a process may use, by control groups of both versions."""

from pathlib import Path

import pytest

from musetalk_runtime.core import cores


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/a/b", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 0.5),
        ("0::/../host/path", {"cpu.max": "200000 100000"}, 2),
        ("4:cpu,cpuacct:/x\n1:name=systemd:/x", {"cpu/x/cpu.cfs_quota_us": "300000"}, 3),
        ("4:cpu,cpuacct:/x", {"cpu/cpu.cfs_quota_us": "-1"}, 8),
        ("0::/", {"cpu.max": "damaged"}, 8),
        ("damaged", {}, 8),
        ("", {}, 8),
    ],
)
def test_a_quota_of_a_control_group_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], expected: float
) -> None:
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.with_name("cpu.cfs_period_us").write_text("100000")
    (tmp_path / "cgroup").write_text(groups)
    monkeypatch.setattr(cores, "PROC", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores.available_cores() == expected
