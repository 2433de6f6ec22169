"""Where the checkout, its scripts and the tests' own data lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
TESTS = ROOT / "tests"
DATA = TESTS / "data"
