"""A bundle of TensorRT for RTX on its way to a certificate, where the library and the GPU are simulated.

What cannot be shown here is whether TensorRT for RTX takes the calls: its names are held to the real bindings in
test_machine.py, and no GPU that it runs on was at hand.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.cuda_simulator import BATCHES
from helpers.rtx_simulator import Rtx, write_simulated_plan
from helpers.service_client import Client, Viewer, until
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.backends.trt import batch_graph
from musetalk_runtime.backends.trt.certificate import bundle_key, find_certificate
from musetalk_runtime.certification import certify, rebuild
from musetalk_runtime.certification.measure import paying_batches
from musetalk_runtime.cli import serve
from musetalk_runtime.cli.main import main
from musetalk_runtime.core.errors import AccuracyError, InvalidFolder, MachineError
from musetalk_runtime.demo import AVATAR
from musetalk_runtime.storage.folder import MANIFEST, read_folder, sha256
from musetalk_runtime.update.versions import Versions


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes 5 ms at every profile, and is not measured."""
    monkeypatch.setattr(certify, "plan_ms", lambda _plan, profiles, _precision: [5.0] * len(profiles))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificate of the first certification is kept."""
    return tmp_path_factory.mktemp("kept") / ".certificates"


@pytest.fixture
def certified_bundle(rtx_bundle: Path, kept: Path) -> Path:
    """`rtx_bundle`, certified."""
    if kept.exists():
        shutil.copytree(kept, rtx_bundle.parent / kept.name)
    else:
        certify.certify_bundle(rtx_bundle, print)
        shutil.copytree(rtx_bundle.parent / kept.name, kept)
    return rtx_bundle


def test_a_bundle_that_was_never_certified_opens_and_says_what_it_needs(rtx_bundle: Path) -> None:
    with Bundle.open(rtx_bundle) as bundle:
        assert bundle.batch_sizes == list(BATCHES)
        for ask in (lambda: bundle.batch_ms, lambda: bundle.live_context, bundle.engines.check):
            with pytest.raises(MachineError, match=f"not certified.*run 'musetalk-edge certify {rtx_bundle}'"):
                ask()


def test_a_certified_bundle_gives_the_cpu_chains_frames(
    rtx: type[Rtx], rtx_bundle: Path, kept: Path, bundle: Path, avatar: Path, speech: Callable[[float], Path]
) -> None:
    said: list[str] = []
    certificate = certify.certify_bundle(rtx_bundle, said.append)
    shutil.copytree(certificate.path.parent, kept, dirs_exist_ok=True)
    assert certificate.path.parent == rtx_bundle.parent / ".certificates"
    assert set(certificate.manifest["files"]) == {
        f"{graph}.cache" for graph in ("unet", "vae_decoder", "vae_encoder", "audio_encoder")
    }
    assert certificate.manifest["machine"] == {
        "gpu": "Simulated", "compute_capability": "12.1", "driver": "580.65.06", "tensorrt_rtx": "1.7.1.116",
        "os": certificate.manifest["machine"]["os"],
    }  # fmt: skip
    assert certificate.cuda_graph
    for graph, engine in certificate.engines.items():
        assert (engine["variant"], engine["rebuilt"]) == ("as built", False), graph
        assert all(row["relative_error"] <= row["bound"] == 1e-3 for row in engine["certified"])
        assert engine["ms"] == [5.0, 5.0]
    assert certificate.batch_ms == {1: 10.0, 3: 10.0}
    chain = [row["output"] for row in certificate.engines["unet"]["certified"] if row["graph"] == "chain"]
    assert chain == ["images[1]", "images[3]"]
    for graph in certificate.engines:
        assert any(line.startswith(f"certified {graph}: as built, ") for line in said)
    compiled = rtx.compiled
    with Bundle.open(bundle) as cpu, Bundle.open(rtx_bundle) as opened, Avatar.open(avatar) as face:
        opened.engines.check()
        with Session(cpu, face, speech(1.0), fps=10) as session:
            expected = [frame.nv12 for frame in session.frames()]
        with Session(opened, face, speech(1.0), fps=10) as session:
            found = [frame.nv12 for frame in session.frames()]
    assert len(found) == len(expected) == 10
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(found, expected, strict=True)) <= 1
    assert rtx.compiled == compiled  # all came from the runtime cache


def test_a_cache_of_another_driver_is_refused_and_its_kernels_are_compiled_again(
    rtx: type[Rtx], certified_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = rtx.compiled
    monkeypatch.setattr(Rtx, "machine", "GB10, driver 590")
    with Bundle.open(certified_bundle) as opened:
        opened.engines.encode_images(np.zeros((2, 3, opened.spec.image_size, opened.spec.image_size), np.float32))
    assert rtx.compiled == compiled + 1


def test_a_changed_machine_is_certified_anew(
    rtx_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    with Bundle.open(rtx_bundle) as opened:
        certify.ensure_certified(opened, said.append)
        assert said[0] == f"certifying {rtx_bundle}: its first start on this machine"
        certify.ensure_certified(opened, pytest.fail)
        opened.engines.check()
        monkeypatch.setattr(
            sys.modules["cuda.core"], "system", SimpleNamespace(get_kernel_mode_driver_version=lambda: (590, 44, 1))
        )
        opened.find_certificate()
        with pytest.raises(MachineError, match=r"for driver 580\.65\.06, this machine has driver 590\.44\.01"):
            opened.engines.check()
        said.clear()
        certify.ensure_certified(opened, said.append)
        assert "driver 580.65.06" in said[0]
        opened.engines.check()
    assert main(["certify", str(rtx_bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["machine"]["driver"] == "590.44.01"


def test_a_plan_that_is_off_is_built_again_in_a_safer_variant(
    rtx_bundle: Path, modelset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(rtx_bundle, modelset, "vae_decoder", 1.5)
    asked: list[tuple[str, str]] = []

    def again(bundle: Path, graph: str, variant: str, folder: Path, _progress: object) -> Path:
        asked.append((graph, variant))
        profiles = read_folder(bundle, "bundle", 1)["engines"][graph]["profiles"]
        write_simulated_plan(folder, modelset / f"{graph}.onnx", profiles)
        return folder / f"{graph}.plan"

    monkeypatch.setattr(certify, "rebuild_plan", again)
    said: list[str] = []
    certificate = certify.certify_bundle(rtx_bundle, said.append)
    assert asked == [("vae_decoder", "attention unfused")]
    assert any(line.startswith("vae_decoder: as built: off by") for line in said)
    assert certificate.engines["vae_decoder"]["variant"] == "attention unfused"
    assert certificate.engines["vae_decoder"]["rebuilt"]
    assert "vae_decoder.plan" in certificate.manifest["files"]
    golden = np.load(rtx_bundle / "golden.npz")
    with Bundle.open(rtx_bundle) as opened:
        plan = opened.engines._plan("vae_decoder")
        images = plan.run(0, {"latents": golden["vae_decoder.latents"][:1]})["images"]
    assert np.abs(images - golden["vae_decoder.images"][:1]).max() < 1e-3


def test_where_every_variant_is_off_nothing_is_written_and_nothing_runs(
    rtx_bundle: Path, modelset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(rtx_bundle, modelset, "unet", 0.5)

    def again(_bundle: Path, graph: str, _variant: str, folder: Path, _progress: object) -> Path:
        profiles = read_folder(rtx_bundle, "bundle", 1)["engines"][graph]["profiles"]
        write_simulated_plan(folder, modelset / f"{graph}.onnx", profiles, float("nan"))
        return folder / f"{graph}.plan"

    monkeypatch.setattr(certify, "rebuild_plan", again)
    with pytest.raises(AccuracyError, match="in every variant"):
        certify.certify_bundle(rtx_bundle, print)
    assert find_certificate(rtx_bundle) is None
    assert [path for path in rtx_bundle.parent.rglob("*") if "certif" in path.name] == []


@pytest.mark.parametrize(
    ("bit", "says"),
    [
        (0, "another version of TensorRT for RTX built it: run build-engines again"),
        (1, "it was not built for this GPU"),
        (2, "the driver is too old: install a newer one"),
        (4, "the GPU has too little memory for it"),
        (5, "it is damaged: copy the bundle again"),
    ],
)
def test_a_plan_that_may_not_run_here_is_refused_in_words(
    rtx: type[Rtx], rtx_bundle: Path, bit: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rtx.diagnostics = 1 << bit
    assert main(["certify", str(rtx_bundle)]) == 3
    said = capsys.readouterr().err.splitlines()
    assert says in said[-1]
    assert "vae_decoder.plan: TensorRT for RTX 1.7.1.116 cannot run it here" in said[-1]


def test_another_gpu_is_told_what_to_build_for(
    rtx_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from helpers.cuda_simulator import Gpu

    for capability, way_out in (((9, 0), "does not support: run 'build-engines"), ((8, 9), "rtx --for sm_89'")):
        monkeypatch.setattr(Gpu, "capability", capability)
        for command in (["certify"], ["stream", "-o", str(rtx_bundle / "never.mp4"), "-b"]):
            assert main([*command, str(rtx_bundle)]) == 3
            said = capsys.readouterr().err.splitlines()
            assert len(said) == 1
            assert f"built for sm_121, this GPU is sm_{capability[0]}{capability[1]} (Simulated)" in said[0]
            assert way_out in said[0]


@pytest.mark.parametrize("how", ["hangs", "fails", "is foreseen"])
def test_a_capture_that_cannot_be_is_left_out(
    certified_bundle: Path,
    avatar: Path,
    speech: Callable[[float], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    let_go = threading.Event()

    def fail() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    if how == "hangs":
        monkeypatch.setattr(batch_graph, "CAPTURE_TIMEOUT_S", 0.2)
        monkeypatch.setattr(Rtx, "capturing", staticmethod(let_go.wait))
    elif how == "fails":
        monkeypatch.setattr(Rtx, "capturing", staticmethod(fail))
    else:
        monkeypatch.setattr(Rtx, "capturable", False)
    with Bundle.open(certified_bundle) as opened, Avatar.open(avatar) as face:
        for _ in range(2):
            with Session(opened, face, speech(0.4), fps=25) as session:
                assert sum(1 for _ in session.frames()) == 10
    said = [message for message in caplog.messages if "going on without CUDA graphs" in message]
    assert len(said) == 1, "it is tried once"
    assert {"hangs": "not done after 0.2 s", "fails": "not permitted", "is foreseen": "cannot be captured"}[
        how
    ] in said[0]
    let_go.set()


def test_the_certificate_says_that_a_capture_hangs(
    rtx_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(batch_graph, "CAPTURE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(Rtx, "capturing", staticmethod(let_go.wait))
    assert not certify.certify_bundle(rtx_bundle, print).cuda_graph
    caplog.clear()
    with Bundle.open(rtx_bundle) as opened:
        assert not opened.engines._capturable
    let_go.set()


def test_a_read_only_bundle_has_its_certificate_in_the_state_folder(
    rtx_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("STATE_DIRECTORY", f"{state}:/elsewhere")
    monkeypatch.setattr("musetalk_runtime.backends.trt.certificate.os.access", lambda *_: False)
    certificate = certify.certify_bundle(rtx_bundle, print)
    assert certificate.path.parent == state / ".certificates"
    with Bundle.open(rtx_bundle) as opened:
        opened.engines.check()


def test_an_update_certifies_its_copy_and_drops_what_is_left_of_versions_that_are_gone(
    rtx_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "versions"
    (folder / ".certificates" / "0123456789abcdef").mkdir(parents=True)
    said: list[str] = []
    assert Versions(folder).add(rtx_bundle, said.append) == 1
    assert "frames generated by tensorrt-rtx" in said[-1]
    (certificate,) = (folder / ".certificates").iterdir()
    assert certificate.name == bundle_key(folder / "1")[:16]
    with Bundle.open(folder / "current") as opened:
        opened.engines.check()


@pytest.mark.parametrize("damage", ["cache", "manifest", "other bundle"])
def test_a_damaged_certificate_is_none(certified_bundle: Path, damage: str) -> None:
    (path,) = (certified_bundle.parent / ".certificates").iterdir()
    assert find_certificate(certified_bundle) is not None
    if damage == "cache":
        (path / "unet.cache").write_bytes(b"x")
    else:
        manifest = json.loads((path / MANIFEST).read_text())
        manifest.update({"batch_ms": {}} if damage == "manifest" else {"bundle": "0" * 64})
        (path / MANIFEST).write_text(json.dumps(manifest))
    assert find_certificate(certified_bundle) is None


def test_a_bundle_that_was_certified_when_it_was_built_is_not_certified_here(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certify", str(bundle)]) == 2
    assert "it was certified when it was built, by onnxruntime" in capsys.readouterr().err


def test_batch_sizes_that_are_no_sizes_are_refused(rtx_bundle: Path) -> None:
    manifest = json.loads((rtx_bundle / MANIFEST).read_text())
    for sizes in (None, [], [0], ["4"], [65], [[1]], 4):
        (rtx_bundle / MANIFEST).write_text(json.dumps({**manifest, "batch_sizes": sizes}))
        with pytest.raises(InvalidFolder, match="batch_sizes"):
            Bundle.open(rtx_bundle)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("engines", None), ("engines", {"unet": {"variant": "as built"}}), ("engines", {"unet": 1}),
        ("variants", None), ("variants", []), ("variants", [1]), ("variants", "as built"),
        ("precision", "fp8"), ("graph_precision", None),
    ],
)  # fmt: skip
def test_a_manifest_without_what_certification_reads_is_refused(rtx_bundle: Path, name: str, value: object) -> None:
    manifest = json.loads((rtx_bundle / MANIFEST).read_text())
    (rtx_bundle / MANIFEST).write_text(json.dumps({**manifest, name: value}))
    with pytest.raises(InvalidFolder, match="engines, variants or precision are missing: build it again"):
        certify.certify_bundle(rtx_bundle, print)


def test_a_batch_that_gains_too_little_is_left_out() -> None:
    assert paying_batches({8: 16.0, 1: 4.0, 4: 8.1}) == {1: 4.0, 4: 8.1}
    assert paying_batches({1: 4.0, 4: 17.0, 8: 20.0}) == {1: 4.0, 8: 20.0}


def test_a_rebuild_without_its_builder_says_what_to_install(
    rtx_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "find_spec", lambda _name: None)
    with pytest.raises(MachineError, match=r"pip install 'musetalk-edge\[engines\]'"):
        rebuild.rebuild_plan(rtx_bundle, "unet", "fp32", tmp_path, print)


def spoil(bundle: Path, modelset: Path, graph: str, gain: float) -> None:
    """Let a plan compute something else, as a compiler that is wrong would."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    write_simulated_plan(bundle, modelset / f"{graph}.onnx", manifest["engines"][graph]["profiles"], gain)
    file = bundle / f"{graph}.plan"
    manifest["files"][file.name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_the_demo_speaks_while_a_bundle_is_certified(
    rtx_bundle: Path, avatar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certifies, goes_on, seen = threading.Event(), threading.Event(), []

    def width() -> int:
        try:
            status, avatars = client.ask("GET", "/v1/avatars")
        except ConnectionError:  # the demo's service ends, and had not read the request
            return 0
        return int(avatars[0]["width"]) if status == 200 else 0

    def held(_plan: object, profiles: list[object], _precision: str) -> list[float]:
        certifies.set()
        assert goes_on.wait(120)
        return [5.0] * len(profiles)

    def visit() -> None:
        try:
            certifies.wait(120)
            seen.append(width())
            viewer = Viewer(client, client.begin(fps="auto"), limit=20_000)
            viewer.join(60)
            seen.append(len(viewer.data) > 0)
            goes_on.set()
            until(lambda: width() == 320, "the avatar itself is served")
        finally:
            goes_on.set()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(certify, "plan_ms", held)
    with socket.create_server(("127.0.0.1", 0)) as free:
        client = Client(free.getsockname()[1])
    visitor = threading.Thread(target=visit)
    visitor.start()
    options = ["--port", str(client.port), "--demo-meanwhile", "--sessions", "1", "--grace", "1"]
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    args = parser.parse_args(["serve", "-b", str(rtx_bundle), "-a", f"one={avatar}", *options])
    with pytest.raises(KeyboardInterrupt):
        args.run(args)
    visitor.join()
    assert seen == [Avatar.open(AVATAR).width, True]
