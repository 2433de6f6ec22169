"""Training at the smallest sizes: it learns, all of it learns, and what it leaves can be exported."""

import errno
import json
import shutil
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.full_disk import small_disk
from helpers.training import curve, options, small_checkpoint, small_shards
from helpers.weights import assert_same, save_index, save_shards
from musetalk_distill.cli import main
from musetalk_distill.shards.shards import Shards
from musetalk_distill.train import state as state_module
from musetalk_distill.train.processes import Processes
from musetalk_distill.train.tasks.factory import make_task
from musetalk_distill.train.tasks.losses import temporal
from musetalk_distill.train.train import train
from musetalk_distill.train.trainer import Trainer
from musetalk_distill.train.training_log import TrainingLog
from musetalk_export.checkpoint.checkpoint import read_checkpoint
from musetalk_runtime.core.errors import AccuracyError, InvalidArgument, InvalidCheckpoint, MachineError, OutputError

WHAT = ("student", "teacher", "decoder")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and shards made with it."""
    folder = tmp_path_factory.mktemp("small")
    checkpoint = small_checkpoint(folder / "checkpoint")
    return checkpoint, small_shards(folder / "shards", checkpoint)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_trainer(small: tuple[Path, Path], what: str, **changed) -> tuple[Trainer, list]:
    """A trainer and one fixed batch."""
    from musetalk_distill.train.data.dataset import FrameDataset
    from musetalk_distill.train.image_grid import grid_batch

    shards = Shards.open(small[1])
    chosen = options(what, **changed)
    trainer = Trainer(make_task(small[0], shards.spec, chosen, 0), chosen, Processes())
    return trainer, grid_batch(FrameDataset(shards, "train", 0), torch.device("cpu"))


@pytest.mark.parametrize("what", WHAT)
def test_loss_falls_and_every_tensor_moves(small, what) -> None:
    trainer, batch = make_trainer(small, what, steps=30, warmup=0, pixel_every=1)
    before = {name: tensor.clone() for name, tensor in trainer.task.module.named_parameters()}
    losses = []
    for _ in range(30):
        trainer.step(batch)
        losses.append(trainer.means.take(trainer.done, trainer.processes)["loss"])
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    still = [name for name, tensor in trainer.task.module.named_parameters() if torch.equal(tensor, before[name])]
    assert still == []
    averaged = trainer.average.weights
    assert [name for name, tensor in before.items() if torch.equal(averaged[name], tensor)] == []


def test_temporal_loss_counts_what_changes() -> None:
    expected = torch.rand(6, 3, 16, 16)
    steady = torch.tensor([0.1, 0.1, -0.2, -0.2, 0.3, 0.3])[:, None, None, None]
    assert temporal(expected + steady, expected) == pytest.approx(0, abs=1e-6)
    comes_and_goes = torch.tensor([0.1, -0.1, 0.0, 0.4, 0.0, 0.0])[:, None, None, None]
    assert temporal(expected + comes_and_goes, expected) == pytest.approx(0.2, rel=1e-5)


def test_a_decoder_sees_pairs_with_the_same_noise(small) -> None:
    trainer, batch = make_trainer(small, "decoder", predictions=0, noise=5.0, losses={"temporal": 1.0})
    decoded = []
    trainer.task.decode = lambda latents: decoded.append(latents) or latents.new_zeros(len(latents), 3, 64, 64)
    trainer.task.terms(lambda latents: latents.new_ones(len(latents), 3, 64, 64), batch, step=100)
    noise = decoded[0] - batch.target
    assert torch.allclose(noise[::2], noise[1::2], atol=1e-5)
    assert noise.std() > 0.1


def test_temporal_loss_needs_whole_pairs(small, tmp_path) -> None:
    chosen = options("decoder", batch=3, losses={"temporal": 1.0})
    with pytest.raises(InvalidArgument, match="batch of 3 cannot be shared by one process in groups of 2 frames"):
        train(small[1], tmp_path / "run", small[0], chosen)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_learns_too(small, precision) -> None:
    trainer, batch = make_trainer(small, "student", steps=20, warmup=0, precision=precision)
    first, last = [], []
    for step in range(20):
        trainer.step(batch)
        (first if step < 10 else last).append(trainer.means.take(trainer.done, trainer.processes)["loss"])
    assert np.mean(last) < np.mean(first)
    assert {parameter.dtype for parameter in trainer.task.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("what", WHAT)
def test_command_leaves_a_model_to_export(small, what, tmp_path, capsys) -> None:
    run, shown = tmp_path / "run", ["--steps", "4", "--batch", "4", "--log-every", "2", "--save-every", "2"]
    arguments = ["train", str(small[1]), "-o", str(run), "--checkpoint", str(small[0]), "--what", what, *shown]
    assert main([*arguments, "--width", "8"]) == 0
    printed = capsys.readouterr()
    assert "20 frames of 2 clips, 0.00 GB: in the memory of cpu" in printed.err
    summary = json.loads(printed.out)
    assert (summary["what"], summary["steps"]) == (what, 4)
    if what == "decoder":
        assert read_checkpoint(small[0], decoder_folder=run / "decoder").decoder.config.scaling_factor == 1
    else:
        models = read_checkpoint(run / "checkpoint")
        assert len(models.unet.config.block_out_channels) == (2 if what == "student" else 3)
        assert models.spec == read_checkpoint(small[0]).spec
    assert [record[0] for record in curve(run)] == [2, 4]
    assert sorted(file.name for file in (run / "sheets").iterdir()) == ["step-000000002.png", "step-000000004.png"]
    assert any((run / "tensorboard").iterdir())


def test_result_is_the_average(small, tmp_path) -> None:
    train(small[1], tmp_path / "run", small[0], options(steps=3))
    found = read_checkpoint(tmp_path / "run" / "checkpoint").unet.state_dict()
    state = state_module.newest_state(tmp_path / "run", config_of(tmp_path / "run"))
    assert all(torch.equal(tensor, state.average[f"unet.{name}"]) for name, tensor in found.items())


def config_of(run: Path) -> str:
    from musetalk_distill.train.tasks.options import config_hash

    return config_hash(json.loads((run / "run.json").read_text()))


def test_a_full_disk_is_told_by_the_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    log = TrainingLog(tmp_path, 0, 10)
    with pytest.raises(OutputError, match=r"log\.jsonl: cannot be written: No space left.*: make room.*--resume"):
        log.record(1, 1.0, {}, 1e-3, 4)
    log.close()


def test_tensorboard_gets_the_scalars_of_each_step(tmp_path: Path) -> None:
    for done in (0, 2):  # a run, and one that goes on after its second step
        with TrainingLog(tmp_path, done, 4) as log:
            for step in (done + 1, done + 2):
                log.record(step, 0.5 * step, {"pixels": 0.25}, 1e-3, 4)
    first, second = sorted((tmp_path / "tensorboard").iterdir(), key=lambda file: int(file.suffix[1:]))
    assert [scalars(event) for event in events(first)[1:]][::4] == [{"loss": 0.5}, {"loss": 1.0}]
    assert {name for event in events(first) for name in scalars(event)} == {
        "loss",
        "lr",
        "samples_per_s",
        "loss/pixels",
    }
    head, start = events(second)[:2]
    assert (head.file_version, start.session_log.status, start.step) == ("brain.Event:2", 1, 3)
    assert [event.step for event in events(second)[2:]] == [3] * 4 + [4] * 4


def events(file: Path) -> list:
    from tensorboardX.proto.event_pb2 import Event

    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def scalars(event) -> dict[str, float]:
    return {value.tag: value.simple_value for value in event.summary.value}


def test_a_disk_that_was_full_for_a_while_hangs_nothing(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with small_disk(tmp_path / "disk", 256 << 10) as disk:
        log = TrainingLog(disk, 0, 100)
        (disk / "other").write_bytes(bytes(220 << 10))
        with pytest.raises(OutputError, match=r"log\.jsonl: cannot be written: No space left"):
            record(log, 1000)
        (disk / "other").unlink()
        record(log, 20)
        log.close()
        assert set(threading.enumerate()) <= before


def record(log: TrainingLog, steps: int) -> None:
    for step in range(1, steps + 1):
        log.record(step, 1.0, {}, 1e-3, 4)


def test_full_disk_keeps_the_last_checkpoint(small, tmp_path, monkeypatch) -> None:
    write, calls = state_module.save_file, []

    def fill(tensors, file) -> None:
        calls.append(file)
        if len(calls) > 2:
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, file)

    monkeypatch.setattr(state_module, "save_file", fill)
    with pytest.raises(OutputError, match=r"step 10 cannot be written.*No space left.*--resume"):
        train(small[1], tmp_path / "run", small[0], options())
    monkeypatch.undo()
    assert [folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000005"]
    train(small[1], tmp_path / "run", small[0], options(), resume=True)
    assert [record[0] for record in curve(tmp_path / "run")] == list(range(1, 13))


def test_memory_too_small_says_batch(small, monkeypatch) -> None:
    trainer, batch = make_trainer(small, "student")
    monkeypatch.setattr(trainer.task, "terms", raise_out_of_memory)
    with pytest.raises(MachineError, match="batch of 4 is too large: try a smaller --batch"):
        trainer.step(batch)


def raise_out_of_memory(*_: object) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_loss_that_is_no_number_ends_the_run(small, tmp_path) -> None:
    with pytest.raises(AccuracyError, match="no number by step"):
        train(
            small[1], tmp_path / "run", small[0], options(lr=1.0, losses={"output": 1e6}, clip=1e6, steps=40, warmup=0)
        )


def test_a_vae_in_shards_is_copied_whole(small, tmp_path) -> None:
    checkpoint = shutil.copytree(small[0], tmp_path / "checkpoint")
    whole = checkpoint / "vae" / "diffusion_pytorch_model.safetensors"
    places = save_shards(checkpoint / "vae", load_file(whole), 3)
    renamed = {name: f"part-{place[-22:-17]}.safetensors" for name, place in places.items()}
    for name, place in {(places[name], renamed[name]) for name in places}:
        (checkpoint / "vae" / name).rename(checkpoint / "vae" / place)
    save_index(whole.with_name(f"{whole.name}.index.json"), renamed)
    whole.unlink()
    train(small[1], tmp_path / "run", checkpoint, options(steps=1))
    assert_same(tmp_path / "run" / "checkpoint", small[0], ["vae", "audio"])


@pytest.mark.parametrize("what", ["student", "decoder"])
def test_a_teacher_of_nan_is_named_and_leaves_no_run(small, what, tmp_path, capsys) -> None:
    checkpoint = shutil.copytree(small[0], tmp_path / "checkpoint")
    file = checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.weight"] *= 1e36  # finite, and what follows is not
    save_file(weights, file)
    run = ["train", str(small[1]), "-o", str(tmp_path / "run"), "--checkpoint", str(checkpoint), "--what", what]
    assert main([*run, "--precision", "fp32", "--width", "8", "--steps", "3", "--batch", "4"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "checkpoint: its U-Net makes NaN or infinity of these shards in fp32: its weights are damaged" in error
    weights["conv_in.weight"] *= torch.nan
    save_file(weights, file)
    assert main([*run, "--width", "8", "--steps", "3", "--batch", "4"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "NaN or infinity in 1 weights (conv_in.weight)" in error
    assert "--lr" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_run_folder_of_another(small, tmp_path) -> None:
    train(small[1], tmp_path / "run", small[0], options(steps=5))
    with pytest.raises(InvalidArgument, match="holds a run: go on with --resume"):
        train(small[1], tmp_path / "run", small[0], options(steps=5))
    with pytest.raises(InvalidArgument, match=r"batch 4.*--resume"):
        train(small[1], tmp_path / "run", small[0], options(steps=5, batch=5), resume=True)


def test_shards_of_another_checkpoint(small, tmp_path) -> None:
    from musetalk_export.checkpoint.preset import init_checkpoint

    init_checkpoint("tiny", tmp_path / "tiny")
    with pytest.raises(InvalidCheckpoint, match="image_size is 128, the shards' 64"):
        train(small[1], tmp_path / "run", tmp_path / "tiny", options())
    assert not (tmp_path / "run").exists()


def test_shards_cut_short(small, tmp_path, capsys) -> None:
    import shutil

    shutil.copytree(small[1], tmp_path / "shards")
    shard = next((tmp_path / "shards").glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:1000])
    arguments = ["train", str(tmp_path / "shards"), "-o", str(tmp_path / "run"), "--checkpoint", str(small[0])]
    assert main(arguments) == 2
    assert shard.name in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_options_out_of_range() -> None:
    for wrong in ({"batch": 0}, {"losses": {"edges": 1.0}}, {"precision": "fp8"}, {"lr": 2.0}, {"ema": 1.0}):
        with pytest.raises(
            InvalidArgument, match=next(iter(wrong)).rstrip("es") if "losses" in wrong else next(iter(wrong))
        ):
            options(**wrong)
