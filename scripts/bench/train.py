"""How fast is a training step of the student on this GPU, and does its loss fall?

    PYTHONPATH=export:runtime python scripts/bench/train.py OUT.json [--size student] [--batch 48] [--steps 500]

Trains a student of the real sizes (318 M) from a teacher with random weights (850 M), once as it is and once with
torch.compile, on a few fixed batches of random latents that lie on the GPU. Writes JSON: samples a second after the
first steps, the seconds those took (with compile: most of them compiling), the share of the time in which the GPU ran a
kernel (nvidia-smi, five times a second), memory, and the loss every 50 steps. ``--size tiny`` runs anywhere.

It does not measure: reading shards, checkpoints and sheets, EMA weights' quality, several GPUs, or real data.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from musetalk_distill.train.data.batch import Batch
from musetalk_distill.train.processes import Processes
from musetalk_distill.train.tasks.options import TrainOptions
from musetalk_distill.train.tasks.student import make_student, student_config
from musetalk_distill.train.tasks.unet_task import StudentTask
from musetalk_distill.train.trainer import LOSS, Trainer
from musetalk_export.checkpoint.preset import PRESETS, random_unet, random_vae

BATCHES = 4  # that are used in turn
RECORD_EVERY = 50  # steps
TOKENS = 50
NOT_MEASURED = ["reading shards", "checkpoints and sheets", "several GPUs", "real data", "the quality of the student"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", choices=("student", "tiny"), default="student")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--warmup", type=int, default=20, help="first steps that are not timed (default: %(default)s)")
    parser.add_argument("--precision", choices=("bf16", "fp16", "fp32"))
    parser.add_argument("--modes", default="eager,compile", help="default: %(default)s")
    args = parser.parse_args()
    result: dict[str, Any] = {"device": device_name(), "torch": torch.__version__, "size": args.size}
    result |= {"batch": args.batch, "not_measured": NOT_MEASURED, "modes": {}}
    for mode in args.modes.split(","):
        result["modes"][mode] = measure(args, compiled=mode == "compile")
        args.output.write_text(json.dumps(result, indent=1) + "\n")  # after each: it takes minutes
    print(json.dumps(result, indent=1))


def measure(args: argparse.Namespace, compiled: bool) -> dict[str, Any]:
    """One run from the first weights; what it leaves on the GPU is freed on return."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer = make_trainer(args, compiled)
    batches = [random_batch(args, number, trainer.processes.device) for number in range(BATCHES)]
    warmup = min(args.warmup, args.steps - 1)
    start = time.perf_counter()
    losses = train(trainer, batches, warmup)
    first = time.perf_counter() - start
    with gpu_samples() as samples:
        start = time.perf_counter()
        losses += train(trainer, batches, args.steps - warmup)
        seconds = time.perf_counter() - start
    return {
        "precision": trainer.precision,
        "first_steps": {"steps": warmup, "seconds": round(first, 2)},
        "samples_per_s": round((args.steps - warmup) * args.batch / seconds, 2),
        "ms_a_step": round(seconds / (args.steps - warmup) * 1e3, 2),
        "gpu_busy_percent": round(mean(sample[0] for sample in samples), 1) if samples else None,
        "gpu_watts": round(mean(sample[1] for sample in samples), 1) if samples else None,
        "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch.cuda.is_available() else None,
        "losses": losses,
    }


def train(trainer: Trainer, batches: list[Batch], steps: int) -> list[dict[str, float]]:
    """Do `steps` steps; the mean losses since the last record, every 50 steps and at the end. Waits for the device."""
    records = []
    for left in range(steps - 1, -1, -1):
        trainer.step(batches[trainer.done % len(batches)])
        if left == 0 or trainer.done % RECORD_EVERY == 0:
            means = trainer.means.take(trainer.done, trainer.processes)
            records.append({"step": trainer.done, **{name: round(value, 5) for name, value in means.items()}})
            print(f"step {trainer.done}, loss {means[LOSS]:.4f}", flush=True)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return records


def make_trainer(args: argparse.Namespace, compiled: bool) -> Trainer:
    # The truth has no weight: what a random teacher makes has nothing to do with it.
    options = TrainOptions(
        steps=args.steps, batch=args.batch, precision=args.precision, compile=compiled, losses={"truth": 0.0}
    )
    teacher, vae = random_unet(teacher_config(args.size)), random_vae(PRESETS[args.size].vae)
    student, _ = make_student(teacher, student_config(dict(teacher.config), None), options.seed)
    return Trainer(StudentTask(student, teacher, vae, TOKENS, options, Path()), options, Processes())


def teacher_config(size: str) -> dict[str, Any]:
    """Stable Diffusion's shape: with its own widths, or with those of the preset "tiny" and one stage more."""
    teacher = PRESETS["teacher"].unet
    if size == "student":
        return teacher
    tiny = PRESETS["tiny"].unet
    changed = {name: tiny[name] for name in ("cross_attention_dim", "attention_head_dim", "norm_num_groups")}
    widths = list(tiny["block_out_channels"])
    return {**teacher, **changed, "block_out_channels": [*widths, widths[-1]]}


def random_batch(args: argparse.Namespace, seed: int, device: torch.device) -> Batch:
    config = PRESETS[args.size].unet
    side, channels = config["sample_size"], config["out_channels"]
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2 * channels, side, side), (TOKENS, config["cross_attention_dim"]), (channels, side, side))
    inputs, tokens, target = (torch.randn(args.batch, *shape, generator=generator).to(device) for shape in shapes)
    return Batch(inputs, tokens, target)


@contextmanager
def gpu_samples() -> Iterator[list[tuple[float, float]]]:
    """Per cent busy and watts, as nvidia-smi saw them while the block ran; in the list once it is left."""
    samples: list[tuple[float, float]] = []
    if not torch.cuda.is_available():
        yield samples
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,power.draw", "--format=csv,noheader,nounits", "-lms", "200"]
    chosen = ["-i", str(torch.cuda.current_device())]
    with subprocess.Popen([*query, *chosen], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield samples
        finally:
            process.terminate()
            for line in (process.communicate()[0] or "").splitlines():
                with suppress(ValueError):
                    busy, watts = (float(value) for value in line.split(","))
                    samples.append((busy, watts))


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
