"""The evaluation of models, side by side, on the clips of the split "val"."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musetalk_distill.evaluate.candidate import Candidate
from musetalk_distill.evaluate.lips import lip_opening
from musetalk_distill.evaluate.progress import Progress, Show
from musetalk_distill.evaluate.scores import Likeness, Scores, to_pictures
from musetalk_distill.shards.people import check_unmet
from musetalk_distill.shards.shards import ClipTensors, Shards
from musetalk_distill.train.data.dataset import FrameDataset

BATCH = 16  # frames that are painted at once


def evaluate(
    checkpoints: Sequence[Path],
    shards: Path,
    teacher: Path | None = None,
    decoder: Path | None = None,
    clips: int = 0,
    show: Show = lambda _: None,
) -> dict[str, Any]:
    """The figures of each of `checkpoints` on the first `clips` (0: all) clips of "val" in `shards`.

    `teacher` is a row of its own, and what the others are compared with besides the truth; with `decoder`, a small
    one's folder, every checkpoint has a second row, which is also compared with the checkpoint's own decoder on the
    same latents. The first row is the decoder on the true latents: the bound that the VAE sets, and what the lips'
    measure makes of true mouths. The small decoder on them comes second. `show` is called with the
    progress. Raises InputNotFound, InvalidFolder, InvalidCheckpoint, or InvalidArgument if there is no clip, or one of
    somebody whom a model was trained on.
    """
    data = Shards.open(shards)
    dataset = FrameDataset(data, "val", 0)
    for model in (*checkpoints, *([teacher] if teacher else []), *([decoder] if decoder else [])):
        check_unmet(model, dataset.clips, shards)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    candidates, others = _candidates(checkpoints, data, teacher, decoder, device)
    scores = [Scores() for _ in candidates]
    chosen = range(min(clips or len(dataset.clips), len(dataset.clips)))
    progress = Progress([len(_frames(dataset.clip(index))) for index in chosen], len(candidates), show)
    for index in chosen:
        _score_clip(dataset, index, candidates, others, scores, device, progress)
    one = dataset.batch([0], device)
    rows = []
    for number, (candidate, score) in enumerate(zip(candidates, scores, strict=True)):
        progress.measure(number)
        rows.append({"name": candidate.name, **candidate.cost(one), **score.to_json()})
    return {"shards": str(shards), "clips": len(chosen), "device": _device_name(device), "models": rows}


def _candidates(
    checkpoints: Sequence[Path], data: Shards, teacher: Path | None, decoder: Path | None, device: torch.device
) -> tuple[list[Candidate], dict[str, list[int | None]]]:
    """The candidates, and by score of Scores which other one each of them is compared with."""
    paths = [*([teacher] if teacher else []), *checkpoints]
    found, whole = [Candidate(paths[0], data.spec, device, painter=False)], list[int | None]([None])
    if decoder is not None:
        found.append(Candidate(paths[0], data.spec, device, decoder, painter=False))
        whole.append(0)
    first = len(found)
    found += [Candidate(path, data.spec, device) for path in paths]
    whole += [None] * len(paths)
    if decoder is not None:
        found += [Candidate(path, data.spec, device, decoder) for path in checkpoints]
        whole += range(first + len(paths) - len(checkpoints), first + len(paths))
    return found, {"teacher": [first if teacher else None] * len(found), "vae": whole}


def _score_clip(
    dataset: FrameDataset,
    index: int,
    candidates: list[Candidate],
    others: Mapping[str, Sequence[int | None]],
    scores: list[Scores],
    device: torch.device,
    progress: Progress,
) -> None:
    clip, first = dataset.clip(index), int(dataset.sampler.first[index])
    measured: list[list[Any]] = [[] for _ in candidates]
    frames = _frames(clip)
    for start in range(0, len(frames), BATCH):
        places = frames[start : start + BATCH]
        batch = dataset.batch([first + place for place in places], device)
        painted = []
        for candidate in candidates:
            painted.append(candidate.paint(batch))
            progress.paint(index, len(places))
        truth, shown = _truth(clip, places, device)
        for number, images in enumerate(painted):
            measured[number].append(lip_opening(images))
            if len(shown):
                scores[number].truth.add(images[shown], truth)
            for name, other_of in others.items():
                if (other := other_of[number]) is not None:
                    likeness: Likeness = getattr(scores[number], name)
                    likeness.add_motion(images, painted[other], [(index, place) for place in places])
                    if len(shown):
                        likeness.add(images[shown], painted[other][shown])
    if clip.opening is not None:
        for score, found in zip(scores, measured, strict=True):
            score.add_openings(found, clip.opening)


def _frames(clip: ClipTensors) -> list[int]:
    """The frames to paint: all where the mouth's opening is known, else those whose pictures are kept, and the next."""
    if clip.opening is not None:
        return list(range(len(clip.latents)))
    kept = [] if clip.images_at is None else clip.images_at.tolist()
    return sorted({place for first in kept for place in (first, first + 1) if place < len(clip.latents)})


def _truth(clip: ClipTensors, places: list[int], device: torch.device) -> tuple[Tensor, list[int]]:
    """The kept pictures of `places`, and which of them these are."""
    if clip.images is None or clip.images_at is None:
        return torch.empty(0), []
    kept = {int(place): number for number, place in enumerate(clip.images_at)}
    shown = [number for number, place in enumerate(places) if place in kept]
    picked = np.asarray([kept[places[number]] for number in shown], np.int64)
    return to_pictures(clip.images[picked], device), shown


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
