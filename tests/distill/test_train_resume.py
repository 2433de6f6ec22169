"""A run that was killed or stopped and then resumed has the loss curve of one that was not, to the bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.training import CHILD_ENVIRONMENT, curve, options, small_checkpoint, small_shards
from musetalk_distill.train.train import train
from musetalk_distill.train.trainer import Trainer
from musetalk_runtime.cli.command import Terminated
from musetalk_runtime.core.errors import InvalidArgument

KILLS = ("before_the_first_checkpoint", "inside_a_checkpoint", "inside_a_line_of_the_log")
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from helpers.training import options
from musetalk_distill.train import state, trainer, training_log
from musetalk_distill.train.train import train

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def before_the_first_checkpoint(run):
    learn = trainer.Trainer.learn
    trainer.Trainer.learn = lambda self, batch: kill() if self.done == 3 else learn(self, batch)

def inside_a_checkpoint(run):
    save = state.torch.save
    def half(content, file):
        save(content, file)
        if "step-000000010" in str(file):
            os.truncate(file, os.path.getsize(file) // 2)
            kill()
    state.torch.save = half

def inside_a_line_of_the_log(run):
    dumps = training_log.json.dumps
    def half(record, **options):
        if record.get("step") == 9 and "terms" in record:
            with open(run / "log.jsonl", "a") as file:
                file.write(dumps(record)[:20])
            kill()
        return dumps(record, **options)
    training_log.json.dumps = half

torch.set_num_threads(1)
shards, checkpoint, runs = (Path(name) for name in sys.argv[1:4])
for where in sys.argv[4:]:
    child = os.fork()  # PyTorch is imported once, and has no threads yet
    if not child:
        globals()[where](runs / where)
        train(shards, runs / where, checkpoint, options(log_every=3))
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("resume")
    checkpoint = small_checkpoint(folder / "checkpoint")
    return checkpoint, small_shards(folder / "shards", checkpoint)


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was not killed. It logs every 3 steps and saves every 5: sums outlive a checkpoint."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("whole") / "run"
    train(small[1], run, small[0], options(log_every=3))
    return run


@pytest.fixture(scope="module")
def killed(small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs that were killed, one for each of KILLS."""
    runs = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", SCRIPT, str(small[1]), str(small[0]), str(runs), *KILLS]
    done = subprocess.run(command, capture_output=True, text=True, env=CHILD_ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(int(signal.SIGKILL))] * len(KILLS), done.stderr
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("where", KILLS)
def test_killed(small, whole, killed, where) -> None:
    torch.set_num_threads(1)
    run = killed / where
    half_written = list((run / "checkpoints").glob(".step-*.partial"))
    assert len(half_written) == (where == "inside_a_checkpoint")
    train(small[1], run, small[0], options(log_every=3), resume=True)
    assert curve(run) == curve(whole)
    assert same_weights(run, whole)
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert left == ["step-000000010", "step-000000012"]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_stopped_by_a_signal(small, whole, tmp_path, monkeypatch, number, error) -> None:
    torch.set_num_threads(1)
    learn = Trainer.learn

    def stop(self, batch):
        if self.done == 6:
            os.kill(os.getpid(), number)
        return learn(self, batch)

    before = signal.getsignal(number)
    monkeypatch.setattr(Trainer, "learn", stop)
    with pytest.raises(error):
        train(small[1], tmp_path / "run", small[0], options(log_every=3))
    monkeypatch.undo()
    assert signal.getsignal(number) is before
    assert (tmp_path / "run" / "checkpoints" / "step-000000007").is_dir()
    train(small[1], tmp_path / "run", small[0], options(log_every=3), resume=True)
    assert curve(tmp_path / "run") == curve(whole)


def test_a_finished_run_is_extended(small, whole, tmp_path, caplog) -> None:
    """Frames and rates are those of a longer run from the end on; the rates before it were the shorter run's."""
    torch.set_num_threads(1)
    run, again, longer = (tmp_path / name for name in ("run", "again", "longer"))
    for copy in (run, again):
        shutil.copytree(whole, copy)
    with caplog.at_level("INFO", "musetalk_distill"):
        summary = train(small[1], run, small[0], options(log_every=3, steps=18), resume=True)
    assert "18 steps instead of 12: the learning rate goes on from" in caplog.text
    assert summary["steps"] == 18
    assert json.loads((run / "run.json").read_text())["steps"] == 18
    train(small[1], longer, small[0], options(log_every=3, steps=18))
    records, expected = (curve(folder) for folder in (run, longer))
    assert [record[0] for record in records] == [3, 6, 9, 12, 15, 18]
    assert records[:4] == curve(whole)
    assert rates(run)[4:] == rates(longer)[4:]
    assert rates(run)[:4] == rates(whole) != rates(longer)[:4]
    assert records[4:] != expected[4:]
    assert not same_weights(run, whole)
    train(small[1], again, small[0], options(log_every=3, steps=15), resume=True)
    train(small[1], again, small[0], options(log_every=3, steps=15), resume=True)
    with pytest.raises(InvalidArgument, match="has made 15 steps already: give --steps 15 or more"):
        train(small[1], again, small[0], options(log_every=3, steps=14), resume=True)
    with pytest.raises(InvalidArgument, match=r"was begun with lr 0\.003: give the same"):
        train(small[1], again, small[0], options(log_every=3, steps=18, lr=1e-3), resume=True)


def test_a_run_is_extended_to_the_bit_where_the_rates_are_the_same(small, tmp_path, monkeypatch) -> None:
    """With one rate throughout, an extended run is the run of so many steps from the start."""
    torch.set_num_threads(1)
    monkeypatch.setattr("musetalk_distill.train.trainer.learning_rate", lambda *_: 1e-3)
    for steps in (5, 12):
        train(small[1], tmp_path / "run", small[0], options(log_every=3, steps=steps), resume=True)
    train(small[1], tmp_path / "longer", small[0], options(log_every=3))
    assert [record for record in curve(tmp_path / "run") if record[0] > 6] == curve(tmp_path / "longer")[2:]
    assert same_weights(tmp_path / "run", tmp_path / "longer")


def rates(run: Path) -> list[float]:
    return [json.loads(line)["lr"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_damaged_checkpoint_is_passed_over(small, whole, tmp_path, caplog) -> None:
    torch.set_num_threads(1)
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoint")
    (run / "checkpoints" / "step-000000012" / "rest.pt").write_bytes(b"gone")
    train(small[1], run, small[0], options(log_every=3), resume=True)
    assert "rest.pt" in caplog.text
    assert curve(run) == curve(whole)
    assert same_weights(run, whole)


def test_finished_run_is_written_again(small, whole, tmp_path) -> None:
    import shutil

    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    train(small[1], tmp_path / "run", small[0], options(log_every=3), resume=True)
    assert same_weights(tmp_path / "run", whole)


def same_weights(run: Path, other: Path) -> bool:
    name = "checkpoint/unet/diffusion_pytorch_model.safetensors"
    return (run / name).read_bytes() == (other / name).read_bytes()
