"""What an interrupted build leaves, what the next one takes over, timing caches, and waiting for native code."""

import dataclasses
import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.build import cache_seeds
from musetalk_engines.trt.certified_plan import CertifiedPlan
from musetalk_engines.trt.interruptible import run_interruptibly
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.plan_builder import plan_ingredients
from musetalk_engines.trt.plan_folder import PlanFolder
from musetalk_engines.trt.profiles import engine_profiles
from musetalk_engines.trt.timing_cache import TimingCache
from musetalk_runtime.certification.check import CertifiedOutput
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument
from musetalk_runtime.storage.folder import new_folder, sha256
from musetalk_runtime.storage.lock import work_key

BUILT_ON = {
    "gpu": "NVIDIA H200",
    "compute_capability": "9.0",
    "driver": "580.159.04",
    "tensorrt": "8.6.0",
    "os": "Linux x86_64",
}


def build(work: PlanFolder, content: bytes = b"plan") -> CertifiedPlan:
    file = work.plan_file("unet")
    file.write_bytes(content)
    rows = [
        CertifiedOutput("unet", "prediction[1]", 1e-3, 8e-3, 2e-2, 0),
        CertifiedOutput("chain", "images[1]", 1e-3, 5e-3, 1e-2, 0, 46.0),
    ]
    profiles = [{"latents": (1, 8, 32, 32), "tokens": (1, 50, 384)}]
    return CertifiedPlan("unet", file.name, profiles, "as built", rows, [2.9], 160.0, len(content), sha256(file))


def unexpected() -> CertifiedPlan:
    raise AssertionError("it was certified already")


def test_what_was_certified_is_taken_over(tmp_path: Path) -> None:
    with PlanFolder(tmp_path / "bundle") as work:
        plan, kept = work.take_or_build("unet", {"level": 2}, lambda: build(work))
        assert not kept
    assert [file.name for file in tmp_path.iterdir()] == [".bundle.work"]
    with PlanFolder(tmp_path / "bundle") as work:
        assert work.take_or_build("unet", {"level": 2}, unexpected) == (plan, True)


@pytest.mark.parametrize("damage", ["level", "plan", "record", "no plan"])
def test_what_does_not_match_is_deleted_and_built_again(tmp_path: Path, damage: str) -> None:
    with PlanFolder(tmp_path / "bundle") as work:
        work.take_or_build("unet", {"level": 2}, lambda: build(work))
    with PlanFolder(tmp_path / "bundle") as work:
        if damage == "plan":
            work.plan_file("unet").write_bytes(b"other")
        if damage == "no plan":
            work.plan_file("unet").unlink()
        if damage == "record":
            (work.path / "unet.json").write_text('{"key": ')
        level = 3 if damage == "level" else 2

        def again() -> CertifiedPlan:
            assert sorted(file.name for file in work.path.iterdir()) == ["lock"]
            return build(work, b"new plan")

        plan, kept = work.take_or_build("unet", {"level": level}, again)
        assert not kept
        assert plan.bytes == len(b"new plan")


def test_a_build_that_fails_leaves_what_was_certified_before_it(tmp_path: Path) -> None:
    def interrupted() -> CertifiedPlan:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), PlanFolder(tmp_path / "bundle") as work:
        work.take_or_build("unet", {}, interrupted)
    assert list(tmp_path.iterdir()) == []
    with PlanFolder(tmp_path / "bundle") as work:
        work.take_or_build("unet", {}, lambda: build(work))
    with pytest.raises(KeyboardInterrupt), PlanFolder(tmp_path / "bundle") as work:
        work.take_or_build("vae_encoder", {}, interrupted)
    with PlanFolder(tmp_path / "bundle") as work:
        assert work.take_or_build("unet", {}, unexpected)[1]
        work.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("linked", [True, False])
def test_what_was_certified_outlives_a_bundle_that_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not linked:
        monkeypatch.setattr("os.link", refuse)
    output = tmp_path / "bundle"
    with PlanFolder(output) as work:
        plan, _ = work.take_or_build("unet", {}, lambda: build(work))
        with pytest.raises(KeyboardInterrupt), new_folder(output, "bundle", 1) as (folder, _):  # noqa: PT012
            work.link_into(folder, work.plan_file("unet"))
            raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == [".bundle.work"]
    with PlanFolder(output) as work:
        assert work.take_or_build("unet", {}, unexpected) == (plan, True)
        with new_folder(output, "bundle", 1) as (folder, _):
            work.link_into(folder, work.plan_file("unet"))
        work.remove()
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]
    assert (output / "unet.plan").read_bytes() == b"plan"


def test_two_builds_of_one_bundle_do_not_mix(tmp_path: Path) -> None:
    with PlanFolder(tmp_path / "bundle"), pytest.raises(InvalidArgument, match="being built by another process"):
        PlanFolder(tmp_path / "bundle").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_the_key_changes_with_everything_a_plan_comes_from(modelset: Path, tmp_path: Path) -> None:
    models = ModelSet.open(modelset)
    options = BuildOptions()
    decoder, other = tmp_path / "decoder.plan", tmp_path / "other.plan"
    decoder.write_bytes(b"one")
    other.write_bytes(b"other")

    def key(graph: str = "unet", options: BuildOptions = options, models: ModelSet = models, **changes: Any) -> str:
        profiles = engine_profiles(models.spec, graph, options.batch_sizes)
        built_on = {**BUILT_ON, **changes.get("built_on", {})}
        return work_key(plan_ingredients(models, graph, options, profiles, built_on, changes.get("decoder", decoder)))

    def altered(name: str) -> ModelSet:
        files = {**models.manifest["files"], name: {"bytes": 1, "sha256": "0" * 64}}
        return ModelSet(models.path, {**models.manifest, "files": files})

    changed = [
        key("vae_decoder"),
        key(decoder=other),
        key(decoder=None),
        *(key(built_on={name: "another"}) for name in BUILT_ON),
        *(key(models=altered(name)) for name in ("unet.onnx", "unet.onnx.data", "golden.npz")),
        *(
            key(options=dataclasses.replace(options, **{name: value}))
            for name, value in {
                "batch_sizes": (1, 2), "precision": "fp32", "level": 3, "max_memory": 512, "version_compatible": True
            }.items()
        ),
    ]  # fmt: skip
    assert len({key(), *changed}) == 1 + len(changed)
    assert key(models=altered("vae_encoder.onnx")) == key()
    assert key(options=dataclasses.replace(options, timing_cache=other, verbose=True)) == key()


def test_a_timing_cache_begins_as_an_older_one_and_grows(tmp_path: Path) -> None:
    older, named = tmp_path / "older.cache", tmp_path / "named.cache"
    cache = TimingCache(tmp_path / "timing.cache", [named, older])
    assert cache.read() == b""
    older.write_bytes(b"older")
    assert cache.read() == b"older"
    named.write_bytes(b"named")
    assert cache.read() == b"named"
    cache.write(memoryview(b"measured"))
    assert cache.read() == b"measured"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["named.cache", "older.cache", "timing.cache"]


def test_a_timing_cache_is_looked_for_in_the_bundle_to_replace(tmp_path: Path) -> None:
    assert cache_seeds(tmp_path, BuildOptions()) == [tmp_path / "timing.cache"]
    named = tmp_path / "named.cache"
    with pytest.raises(InputNotFound, match="no such timing cache"):
        cache_seeds(tmp_path, BuildOptions(timing_cache=named))
    named.touch()
    assert cache_seeds(tmp_path, BuildOptions(timing_cache=named)) == [named, tmp_path / "timing.cache"]


def test_an_interruptible_run_ticks_and_gives_the_result_or_the_error() -> None:
    ticks: list[float] = []
    enough = threading.Event()

    def tick(seconds: float) -> None:
        ticks.append(seconds)
        if len(ticks) == 3:
            enough.set()

    assert run_interruptibly(lambda: "done" if enough.wait(60) else "no ticks", tick, interval_s=0.05) == "done"
    assert ticks == sorted(ticks)
    with pytest.raises(ZeroDivisionError):
        run_interruptibly(lambda: 1 // 0, ticks.append)
