#!/usr/bin/env python3
"""CPU time that the service itself takes for a frame, with engines that only give constants.

    PYTHONPATH=runtime:engines python scripts/bench/overhead.py [--sessions 20] [--viewers 4] [--said always]

Makes a bundle whose generator and audio encoder give constants, and an avatar of 192x192, and lets sessions at 25 fps
speak without a pause, say nothing, or begin all at once to speak for four of eight seconds (--said). Mouths are not
composed, as a GPU does that elsewhere; libx264 works in processes of its own. So what is left is what many sessions
share the interpreter's lock for. Writes JSON: frames a second, and by frame CPU time of the service's process, that of
its encoder processes, and how often a thread of the service waited (voluntary) or was interrupted (involuntary);
milliseconds of /healthz. Compare two trees in turns: --root is where the service runs from.
"""

import argparse
import http.client
import json
import os
import selectors
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[1]))

from load.service import Service, children, cpu_seconds, serving

from musetalk_runtime import Bundle
from musetalk_runtime.core.model import ModelSpec
from musetalk_runtime.demo import BUNDLE
from musetalk_runtime.diagnostics.synthetic import write_face_video, write_voice
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar
from musetalk_runtime.storage.folder import MANIFEST, sha256

FPS, SIDE, SETTLING_S = 25, 192, 4.0
BURST_S, BURST_INTERVAL_S = 4.0, 8.0
HEALTH_INTERVAL_S = 0.03  # seconds between requests for /healthz
FIRST = """
import musetalk_runtime.backends.ort.renderer as renderer
import musetalk_runtime.service.scheduling.session_encoders as encoders
renderer.compose = lambda *_: None
encoders.MIN_CORES_FOR_PROCESSES = 1
"""
NOT_MEASURED = ["engines", "composition", "pictures of a real size", "more than the cores that this machine has"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20, help="default: 20")
    parser.add_argument("--viewers", type=int, default=4, help="of each session (default: 4)")
    parser.add_argument("--seconds", type=float, default=20.0, help="default: 20")
    parser.add_argument("--said", choices=("always", "bursts", "never"), default="always", help="default: always")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="the tree to measure")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_bundle(work / "bundle")
        box = write_face_video(work / "face.mp4", FPS, 512, 512)
        with Bundle.open(work / "bundle") as bundle:
            prepare_avatar(work / "face.mp4", bundle, work / "avatar", PrepareOptions(face_box=box, max_side=SIDE))
        write_voice(work / "voice.wav", BURST_S if args.said == "bursts" else SETTLING_S + args.seconds + 10)
        os.environ["PYTHONPATH"] = str(args.root.resolve() / "runtime")
        options = ["-b", str(work / "bundle"), "-a", f"one={work / 'avatar'}", "--sessions", str(args.sessions)]
        with serving(*options, first=FIRST) as service:
            print(json.dumps(measure(service, args, (work / "voice.wav").read_bytes()), indent=1))


def write_bundle(path: Path) -> None:
    """The demo's bundle, with graphs of its inputs and outputs that give constants."""
    path.mkdir()
    manifest = json.loads((BUNDLE / MANIFEST).read_text())
    spec = ModelSpec.from_json(manifest["model"], MANIFEST)
    for name in ("vae_encoder.onnx", "vae_encoder.onnx.data"):
        (path / name).write_bytes((BUNDLE / name).read_bytes())
    picture = (np.random.default_rng(0).random((1, spec.image_size, spec.image_size, 3)) * 255).astype(np.uint8)
    latents = [2 * spec.latent_channels, spec.latent_size, spec.latent_size]
    inputs = {"latents": latents, "tokens": [spec.tokens, spec.audio_width]}
    write_graph(path / "generator.onnx", inputs, "faces", picture, 0)
    states = np.zeros((1, 1, spec.audio_states, spec.audio_width), np.float32)
    write_graph(path / "audio_encoder.onnx", {"mel": [spec.mel_bins, "frames"]}, "states", states, 1)
    files = sorted(path.iterdir())
    manifest["files"] = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}
    manifest["batch_ms"] = {"1": 0.5, "4": 1.0, "8": 1.5}
    (path / MANIFEST).write_text(json.dumps(manifest))


def write_graph(file: Path, inputs: dict[str, list[Any]], output: str, value: Any, axis: int) -> None:
    """A graph whose `output` is `value`, repeated along `axis`: 0 as often as the batch is large, 1 for every second of
    the last axis of its input.
    """
    source, start, divisor = next(iter(inputs)), 2 * axis, 1 + axis
    before, after = value.shape[:axis], value.shape[axis + 1 :]
    constants = {"divisor": [divisor], "before": before, "after": after}
    nodes = [
        helper.make_node("Shape", [source], ["length"], start=start, end=start + 1),
        helper.make_node("Div", ["length", "divisor"], ["count"]),
        helper.make_node("Concat", ["before", "count", "after"], ["shape"], axis=0),
        helper.make_node("Expand", ["value", "shape"], [output]),
    ]
    kind = numpy_helper.from_array(value).data_type
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *rest]) for name, rest in inputs.items()],
        [helper.make_tensor_value_info(output, kind, [*("batch", "steps")[: axis + 1], *after])],
        [
            numpy_helper.from_array(value, "value"),
            *(numpy_helper.from_array(np.array(numbers, np.int64), name) for name, numbers in constants.items()),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


def measure(service: Service, args: argparse.Namespace, voice: bytes) -> dict[str, Any]:
    wanted = {"avatar": "one", "fps": FPS}
    paths = [f"/v1/sessions/{service.ask('POST', '/v1/sessions', wanted)[1]['id']}" for _ in range(args.sessions)]
    threading.Thread(target=watch, args=(service, paths, args.viewers), daemon=True).start()
    if args.said == "always":
        say(service, paths, voice)
    time.sleep(SETTLING_S)
    healthz: list[float] = []
    before, began = look(service, paths), time.monotonic()
    bursts = 0
    while (at := time.monotonic() - began) < args.seconds:
        if args.said == "bursts" and at >= bursts * BURST_INTERVAL_S:
            threading.Thread(target=say, args=(service, paths, voice), daemon=True).start()
            bursts += 1
        asked = time.perf_counter()
        service.ask("GET", "/healthz")
        healthz.append((time.perf_counter() - asked) * 1e3)
        time.sleep(HEALTH_INTERVAL_S)
    spent = {name: after - before[name] for name, after in look(service, paths).items()}
    frames = spent.pop("frames")
    return {
        "sessions": args.sessions,
        "viewers": args.sessions * args.viewers,
        "said": args.said,
        "fps": round(frames / (time.monotonic() - began), 1),
        "of_a_frame": {name: round(value / frames, 3) for name, value in spent.items()},
        "healthz_ms": {f"p{p}": round(float(np.percentile(healthz, p)), 1) for p in (50, 90, 99)},
        "cores": os.cpu_count(),
        "not_measured": NOT_MEASURED,
    }


def say(service: Service, paths: list[str], voice: bytes) -> None:
    for path in paths:
        service.send(f"{path}/audio", voice, "audio/wav")


def look(service: Service, paths: list[str]) -> dict[str, float]:
    """Frames made, milliseconds of CPU time, and switches between threads, so far."""
    voluntary = involuntary = 0
    for task in Path(f"/proc/{service.pid}/task").iterdir():
        with suppress(OSError):  # the thread has ended
            status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            voluntary += int(status["voluntary_ctxt_switches"])
            involuntary += int(status["nonvoluntary_ctxt_switches"])
    return {
        "frames": sum(service.ask("GET", path)[1]["generated"] for path in paths) * FPS,
        "service_cpu_ms": service.cpu_seconds * 1e3,
        "encoders_cpu_ms": sum(map(cpu_seconds, children(service.pid))) * 1e3,
        "voluntary": voluntary,
        "involuntary": involuntary,
    }


def watch(service: Service, paths: list[str], viewers: int) -> None:
    """Read all streams, and look at nothing: a viewer that looks would take the service's cores."""
    selector = selectors.DefaultSelector()
    for path in paths:
        for _ in range(viewers):
            connection = http.client.HTTPConnection("127.0.0.1", service.port)
            connection.request("GET", f"{path}/stream.mp4")
            connection.sock.setblocking(False)
            selector.register(connection.sock, selectors.EVENT_READ)
    while selector.get_map():
        for key, _ in selector.select():
            if not key.fileobj.recv(1 << 18):  # type: ignore[union-attr]
                selector.unregister(key.fileobj)


if __name__ == "__main__":
    main()
