"""The public API: its names and signatures, its documentation, its attributes as real objects have them."""

from collections.abc import Callable
from pathlib import Path

import pytest

import musetalk_runtime
from helpers.paths import ROOT
from helpers.public_api import attributes, public_api, undocumented

PINNED = ROOT / "tests" / "data" / "public_api.txt"


def test_names_and_signatures_are_those_that_were_promised() -> None:
    assert public_api() == PINNED.read_text(), (
        "the public API has changed: docs/api.md says what that asks for; then "
        "PYTHONPATH=runtime python tests/helpers/public_api.py > tests/data/public_api.txt"
    )


def test_every_public_class_and_method_is_documented() -> None:
    assert undocumented() == []


def test_every_public_name_can_be_imported_and_is_what_it_says() -> None:
    for name in musetalk_runtime.__all__:
        assert getattr(getattr(musetalk_runtime, name), "__name__", "__version__") == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = musetalk_runtime.Nothing


def test_errors_are_the_builtins_they_mean() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        musetalk_runtime.Bundle.open("/nowhere")
    assert isinstance(caught.value, musetalk_runtime.InputNotFound)
    assert isinstance(caught.value, musetalk_runtime.MuseTalkEdgeError)


def test_objects_have_the_attributes_that_are_promised(
    bundle: Path, avatar: Path, speech: Callable[[float], Path]
) -> None:
    with (
        musetalk_runtime.Bundle.open(bundle) as opened,
        musetalk_runtime.Avatar.open(avatar) as face,
        musetalk_runtime.Session(opened, face, speech(1.0), fps=25) as session,
    ):
        for name, found in (("Bundle", opened), ("Avatar", face), ("Session", session)):
            assert len(attributes(name)) > 3
            assert [attribute for attribute in attributes(name) if not hasattr(found, attribute)] == []


def test_the_document_names_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in musetalk_runtime.__all__ if f"`{name}`" not in text] == []
