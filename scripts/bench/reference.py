"""The chain against the walkthrough's way of doing the same work, on the same GPU, in one run.

    scripts/bench/reference.py CHECKPOINT BUNDLE [--reference-python PYTHON] [-o benchmarks]

CHECKPOINT is a diffusers tree, BUNDLE the engines built from it on this GPU. The reference runs first, then
`musetalk-edge bench`, both at 1280x720 and in batches of the bundle's largest size. Prints both and the ratios, and
saves them as benchmarks/<GPU>.json. `tflops` has what UNet and decoder reach, in TFLOP/s: in the chain from the median
GPU time a frame, one by one and together, and in the reference together; and their shares of a large matrix product's
rate.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

CHAIN = "from musetalk_runtime.cli.main import main; raise SystemExit(main())"
NOT_MEASURED = [
    "reading audio and hearing it, in the reference",
    "muxing and sound, in the reference",
    "NVENC: both encode with libx264 on the CPU",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--reference-python", default=sys.executable, help="a command that runs a Python with torch")
    parser.add_argument("--ways", default="eager,graph,compile", help="of the reference")
    parser.add_argument("--seconds", default="20")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    manifest = json.loads((args.bundle / "manifest.json").read_text())
    script = Path(__file__).with_name("reference_chain.py")
    batch = str(max(map(int, manifest["batch_ms"])))
    reference_options = [args.checkpoint, "--ways", args.ways, "--batch", batch]
    reference = run([*shlex.split(args.reference_python), str(script), *reference_options])
    options = ["--seconds", args.seconds, "--size", "1280x720"]
    chain = run([sys.executable, "-c", CHAIN, "bench", "-b", str(args.bundle), *options])
    ways = args.ways.split(",")
    firsts = chain["warm_sessions"]["first_fragment_seconds"]
    result = {
        "device": reference["gpu"],
        **{name: manifest.get(name) for name in ("built_on", "optimization_level")},
        "reference": reference,
        "chain": chain,
        "chain_over_reference": {way: round(chain["fps"] / reference[way]["fps"], 3) for way in ways},
        "tflops": tflops(reference, chain, ways),
        "first_fragment": {"best_seconds": min(firsts), "sessions": len(firsts)},
        "not_measured": NOT_MEASURED,
    }
    name = re.sub(r"[^A-Za-z0-9]+", "-", reference["gpu"]).strip("-")
    args.output.mkdir(exist_ok=True)
    (args.output / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def tflops(reference: dict[str, Any], chain: dict[str, Any], ways: list[str]) -> dict[str, Any]:
    """``{"chain": {model: {"tflops": TFLOP/s, "of_matrix": share}}, way: {"models": {...}}, ...}``"""
    gflop: dict[str, float] = reference["gflop_a_frame"]

    def rate(work: float, ms: float) -> dict[str, float]:
        reached = work / ms
        return {"tflops": round(reached, 2), "of_matrix": round(reached / reference["matrix_tflops"], 4)}

    ms = {model: chain["stages"][model]["p50_ms"] for model in gflop}
    in_chain = {model: rate(gflop[model], ms[model]) for model in gflop}
    in_chain["models"] = rate(sum(gflop.values()), sum(ms.values()))
    in_ways = {way: {"models": rate(sum(gflop.values()), reference[way]["models_ms_a_frame"])} for way in ways}
    return {"matrix_tflops": reference["matrix_tflops"], "chain": in_chain, **in_ways}


def run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return report


if __name__ == "__main__":
    main()
