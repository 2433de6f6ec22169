"""The order of the frames, and batches from memory and from disk."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.training import small_checkpoint, small_shards
from musetalk_distill.shards.shards import Shards, window_start
from musetalk_distill.train.data.batch_loader import ResidentBatchLoader, StreamingBatchLoader, open_batch_loader
from musetalk_distill.train.data.dataset import FrameDataset
from musetalk_distill.train.data.sampler import FrameSampler
from musetalk_distill.train.ema import ema_decay
from musetalk_distill.train.schedule import learning_rate
from musetalk_runtime.core.errors import InvalidArgument, InvalidFolder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return small_shards(folder / "shards", small_checkpoint(folder / "checkpoint"))


def test_sampler_is_a_function_of_seed_and_step() -> None:
    one, other = FrameSampler([7, 1, 12], seed=5), FrameSampler([7, 1, 12], seed=5)
    ahead = [one.draw(step, 6) for step in range(20)]
    for step in reversed(range(20)):
        for found, expected in zip(other.draw(step, 6), ahead[step], strict=True):
            np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(FrameSampler([7, 1, 12], seed=6).draw(0, 6)[0], ahead[0][0])


def test_every_frame_comes_once_an_epoch() -> None:
    sampler = FrameSampler([7, 1, 12], seed=0)
    frames = np.concatenate([sampler.draw(step, 6)[0] for step in range(10)])
    for epoch in range(3):
        assert sorted(frames[20 * epoch : 20 * epoch + 20]) == list(range(20))
    assert sorted(sampler.draw(0, 45)[0])[:3] == [0, 0, 1]  # a batch larger than the set


def test_references_are_other_frames_of_the_clip() -> None:
    sampler = FrameSampler([7, 1, 12], seed=0)
    drawn = [sampler.draw(step, 50) for step in range(20)]
    frames, references = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    np.testing.assert_array_equal(sampler.clip(frames), sampler.clip(references))
    alone = sampler.clip(frames) == 1
    assert (references[alone] == frames[alone]).all()
    assert (references[~alone] != frames[~alone]).all()
    assert len(set(references[frames == 10])) == 11


def test_pairs_are_neighbours_of_one_clip() -> None:
    sampler = FrameSampler([7, 1, 12], seed=0, pairs=True)
    drawn = [sampler.draw(step, 10) for step in range(4)]
    frames, references = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    first, second = frames[::2], frames[1::2]
    assert sorted(first) == list(range(20))
    np.testing.assert_array_equal(sampler.clip(first), sampler.clip(second))
    expected = {**{frame: frame + 1 for frame in range(20)}, 6: 5, 7: 7, 19: 18}
    assert second.tolist() == [expected[frame] for frame in first.tolist()]
    np.testing.assert_array_equal(sampler.clip(references), sampler.clip(frames))
    assert (references != frames)[sampler.clip(frames) != 1].all()


def test_batch_holds_what_the_shards_hold(shards) -> None:
    opened = Shards.open(shards)
    dataset = FrameDataset(opened, "train", seed=1)
    batch = ResidentBatchLoader(dataset, 20, CPU, 0, slice(None)).batch(0)
    frames, references = dataset.sampler.draw(0, 20)
    for row, (frame, reference) in enumerate(zip(frames, references, strict=True)):
        clip = dataset.clips[frame // 10]
        tensors = opened.tensors(clip)
        start = window_start(int(frame % 10), clip.fps, opened.spec)
        window = np.zeros((10, *tensors.states.shape[1:]), np.float16)
        window[max(0, -start) :] = tensors.states[max(0, start) : start + 10]
        np.testing.assert_array_equal(batch.tokens[row].numpy(), window.reshape(20, 16).astype(np.float32))
        np.testing.assert_array_equal(batch.target[row].numpy(), tensors.latents[frame % 10].astype(np.float32))
        np.testing.assert_array_equal(batch.inputs[row, :4].numpy(), tensors.masked[frame % 10].astype(np.float32))
        np.testing.assert_array_equal(batch.inputs[row, 4:].numpy(), tensors.latents[reference % 10].astype(np.float32))


def test_streamed_is_resident(shards) -> None:
    dataset = FrameDataset(Shards.open(shards), "train", seed=1)
    resident = open_batch_loader(dataset, 6, CPU, 3, slice(2, 4), None)
    with StreamingBatchLoader(dataset, 6, CPU, 3, slice(2, 4)) as streamed:
        for step in range(3, 12):
            one, other = resident.batch(step), streamed.batch(step)
            assert len(one) == 2
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.tokens, other.tokens)
            assert torch.equal(one.target, other.target)
        streamed.close()
    assert isinstance(open_batch_loader(dataset, 6, CPU, 0, slice(None), 10), StreamingBatchLoader)


def test_reader_hears_of_the_threads_error(shards, monkeypatch) -> None:
    dataset = FrameDataset(Shards.open(shards), "train", seed=1)

    def fail(*_: object) -> None:
        raise InvalidFolder("a shard is gone")

    monkeypatch.setattr(dataset, "frame", fail)
    with StreamingBatchLoader(dataset, 6, CPU, 0, slice(None)) as loader, pytest.raises(InvalidFolder, match="gone"):
        loader.batch(0)


def test_empty_split(shards, monkeypatch) -> None:
    opened = Shards.open(shards)
    monkeypatch.setattr(opened, "clips", lambda _split: [])
    with pytest.raises(InvalidArgument, match="no clip is in the split 'train'"):
        FrameDataset(opened, "train", 0)


def test_schedules() -> None:
    rates = [learning_rate(step, 1000, 50, 1e-3) for step in range(1000)]
    assert rates[0] < rates[25] < rates[49] < rates[50] == max(rates) == 1e-3
    assert 1e-5 <= rates[-1] < 1.1e-5
    assert learning_rate(0, 5, 500, 1e-3) == 1e-3
    assert ema_decay(0, 0.999) == 0.1
    assert ema_decay(10**6, 0.999) == 0.999
