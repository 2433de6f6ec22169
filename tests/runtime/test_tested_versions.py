"""The versions that were tested: one table, of which doctor, pyproject.toml and the documentation say the same."""

import re
from importlib.metadata import requires

import pytest

from helpers.paths import ROOT
from musetalk_runtime.diagnostics import doctor
from musetalk_runtime.diagnostics.tested_versions import TESTED, untested

TABLE = re.compile(r"^\| ([a-zA-Z0-9-]+) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)


@pytest.mark.parametrize(
    ("found", "outside"),
    [
        ({"python": "3.10.13", "numpy": "1.24.0", "av": "19.0.2"}, []),
        ({"python": "3.13.0", "numpy": "2.5.9rc1"}, []),
        ({"python": "3.14.0"}, ["python 3.14.0 (tested: 3.10 to 3.13)"]),
        ({"av": "16.1.0", "numpy": "2.6.0"}, ["av 16.1.0 (tested: 17.1 to 19.0)", "numpy 2.6.0 (tested: 1.24 to 2.5)"]),
        ({"tensorrt": "10.3.0"}, ["tensorrt 10.3.0 (tested: 8.6)"]),
        ({"unheard-of": "1.0"}, []),
    ],
)
def test_what_is_outside(found: dict[str, str], outside: list[str]) -> None:
    assert untested(found) == outside


def test_doctor_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.version("numpy")
    assert doctor.examine(None, print)[0].facts["packages"]["numpy"] == found
    monkeypatch.setattr(doctor, "version", lambda name: "9.9" if name == "numpy" else found)
    software = doctor.examine(None, print)[0]
    assert (software.name, software.state) == ("software", doctor.WARNING)
    assert "never tested with" in software.text
    assert "numpy 9.9 (tested: 1.24 to 2.5)" in software.text


def test_the_lowest_are_those_that_pyproject_allows() -> None:
    allowed = dict(re.findall(r"([a-zA-Z0-9-]+)[>=]=([\d.]+)", "\n".join(requires("musetalk-edge") or [])))
    lowest = {name: numbers(low) for name, (low, _) in TESTED.items() if name != "python"}
    assert lowest == {name: numbers(allowed[name]) for name in lowest}


def test_the_documentation_has_the_same_table() -> None:
    rows = TABLE.findall((ROOT / "docs" / "tested.md").read_text())
    assert {name: (low, newest) for name, low, newest in rows} == TESTED


def numbers(version: str) -> list[int]:
    return [*map(int, version.split(".")), 0][:2]
