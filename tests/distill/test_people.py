"""Whom a model was trained on: it is told by the model's folder, handed on, and judged by nobody among them."""

import json
from pathlib import Path

import pytest
import torch

from helpers.training import options, small_checkpoint, small_shards
from musetalk_distill.cli import main
from musetalk_distill.shards.people import FILE, MAX_BYTES, people_of, read_people
from musetalk_distill.shards.shards import Shards
from musetalk_distill.train.train import train
from musetalk_runtime.core.errors import InvalidCheckpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A teacher that learnt from the people a and b, its student from c and d, and shards with c in "val"."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("people")
    checkpoint = small_checkpoint(folder / "checkpoint")
    shards = small_shards(folder / "shards", checkpoint)
    others = small_shards(folder / "others", checkpoint)
    manifest = json.loads((others / "manifest.json").read_text())
    for clip in manifest["clips"]:
        clip["speaker"] = {"a": "c", "b": "d", "c": "e"}[clip["speaker"]]
    (others / "manifest.json").write_text(json.dumps(manifest))
    train(shards, folder / "teacher", checkpoint, options("teacher", steps=1))
    train(others, folder / "student", folder / "teacher" / "checkpoint", options(steps=1))
    return folder / "teacher" / "checkpoint", folder / "student" / "checkpoint", shards


def test_people_are_told_by_hash_and_handed_on(trained: tuple[Path, Path, Path]) -> None:
    teacher, student, shards = trained
    first = people_of(Shards.open(shards).clips("train"))
    assert read_people(teacher) == first
    assert len(read_people(student)) == 4
    assert read_people(student) > first
    assert all(len(person) == 64 for person in read_people(student))
    assert read_people(shards) == set()


def test_a_model_is_not_judged_by_people_it_knows(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    teacher, student, shards = trained
    arguments = ["evaluate", str(student), "--shards", str(shards), "-o", str(tmp_path / "report.json")]
    assert main(arguments) == 2
    assert f'{student} was trained on c, who is in "val" of {shards}' in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()
    arguments[1] = str(teacher)
    assert main(arguments) == 0


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / FILE
    for content in ("", "{}", '{"people": [1]}', '{"people": 1}', "[]", " " * (MAX_BYTES + 1)):
        file.write_text(content)
        with pytest.raises(InvalidCheckpoint, match=r"trained_on\.json: cannot be read"):
            read_people(tmp_path)
