"""Two processes that share each batch train as one does; the benchmark's script runs."""

import json
import subprocess
import sys

import pytest
import torch

from helpers.paths import SCRIPTS
from helpers.training import CHILD_ENVIRONMENT, curve, options, small_checkpoint, small_shards
from musetalk_distill.train.processes import Processes
from musetalk_distill.train.train import train
from musetalk_runtime.core.errors import InvalidArgument

SCRIPT = """
import json, sys, torch
from pathlib import Path
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from helpers.training import options
from musetalk_distill.train.train import train

def work(shards, run, checkpoint):
    torch.set_num_threads(1)
    print(json.dumps(train(shards, run, checkpoint, options(steps=4, losses={"features": 0.0, "pixels": 0.0}))))
    torch.distributed.destroy_process_group()

# What torchrun does, but that its processes are forks: PyTorch is imported once.
config = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork")
elastic_launch(config, work)(*map(Path, sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_processes(tmp_path) -> None:
    torch.set_num_threads(1)
    checkpoint = small_checkpoint(tmp_path / "checkpoint")
    shards = small_shards(tmp_path / "shards", checkpoint)
    train(shards, tmp_path / "one", checkpoint, options(steps=4, losses={"features": 0.0, "pixels": 0.0}))
    command = [sys.executable, "-c", SCRIPT, str(shards), str(tmp_path / "two"), str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, env=CHILD_ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    # Two processes print a line each, and one may come within the other's end.
    assert "{}" in done.stdout
    assert json.loads(done.stdout.replace("{}", "", 1))["steps"] == 4
    for one, two in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        # A mean of differences is the mean of the two halves' means; that of ratios, the features', is not.
        assert two[2] == pytest.approx(one[2], rel=1e-4)


def test_batch_that_cannot_be_shared(monkeypatch) -> None:
    processes = Processes()
    monkeypatch.setattr(processes, "count", 3)
    monkeypatch.setattr(processes, "index", 1)
    assert processes.part(9) == slice(3, 6)
    with pytest.raises(InvalidArgument, match="a batch of 10 cannot be shared by 3 processes"):
        processes.part(10)


def test_benchmark(tmp_path, monkeypatch, capsys) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(str(SCRIPTS / "bench"))
    import train

    arguments = [str(tmp_path / "out.json"), "--size", "tiny", "--batch", "2", "--steps", "4", "--warmup", "1"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "--modes", "eager"])
    train.main()
    assert "not_measured" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["modes"]["eager"]
    assert found["samples_per_s"] > 0
    assert [record["step"] for record in found["losses"]] == [1, 4]
    assert train.teacher_config("student")["block_out_channels"] == [320, 640, 1280, 1280]
