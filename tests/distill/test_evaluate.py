"""Figures of an evaluation, on cases whose answers are known."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.paths import DATA
from helpers.training import small_checkpoint, small_shards
from musetalk_distill.cli import main
from musetalk_distill.evaluate import candidate, cli, evaluate
from musetalk_distill.evaluate.flicker import Flicker
from musetalk_distill.evaluate.lips import lip_correlation, lip_opening
from musetalk_distill.evaluate.scores import Scores, psnr, ssim
from musetalk_distill.train.tasks.decoder_task import make_decoder
from musetalk_export.checkpoint.checkpoint import count, read_checkpoint


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluate")
    checkpoint = small_checkpoint(folder / "checkpoint")
    return checkpoint, small_shards(folder / "shards", checkpoint, frames=20)


def face(height: float, size: int = 64, skin: float = 0.8) -> torch.Tensor:
    """A plain face ``[3, I, I]`` whose mouth, a dark box with red lips around it, is so many faces high."""
    picture = torch.full((3, size, size), skin) * torch.tensor([1.0, 0.8, 0.7])[:, None, None]
    middle, half = round(0.72 * size), round(height * size / 2)
    columns = slice(round(0.3 * size), round(0.7 * size))
    lips = slice(middle - half - 3, middle + half + 3)
    picture[:, lips, columns] = torch.tensor([0.75, 0.35, 0.35])[:, None, None] * skin
    picture[:, middle - half : middle + half, columns] = 0.02 * skin
    picture[:, middle - half : middle - half // 2, columns] = 0.9  # teeth
    return picture


def test_identical_pictures() -> None:
    scores, images = Scores(), torch.rand(3, 3, 64, 64)
    scores.truth.add(images, images)
    same = {"psnr": 100.0, "ssim": 1.0, "flicker": None}
    assert scores.to_json() == {"truth": same, "teacher": None, "vae": None, "lips": None}


def test_only_the_mouth_counts() -> None:
    scores, images = Scores(), torch.rand(2, 3, 64, 64)
    other = images.clone()
    other[:, :, :32] = 0
    scores.truth.add(other, images)
    other[:, :, 32:] = images[:, :, 32:] + 0.1
    scores.teacher.add(other, images)
    found = scores.to_json()
    assert found["truth"]["psnr"] == 100
    assert found["teacher"]["psnr"] == pytest.approx(20, abs=1e-3)


def test_flicker_is_what_comes_and_goes() -> None:
    expected = torch.rand(4, 3, 64, 64)
    steady, alternating = expected + 0.2, expected.clone()
    alternating[::2] += 0.1
    assert flicker(steady, expected, [0, 1, 2, 3]) == pytest.approx(0, abs=1e-4)
    assert flicker(alternating, expected, [0, 1, 2, 3]) == pytest.approx(25.5, rel=1e-4)
    assert flicker(alternating, expected, [0, 2, 4, 5]) == pytest.approx(25.5, rel=1e-4)  # one pair of neighbours
    assert flicker(alternating, expected, [0, 2, 4, 6]) is None
    alternating[:, :, 32:] = expected[:, :, 32:]
    assert flicker(alternating, expected, [0, 1, 2, 3]) == 0


def test_flicker_across_batches_but_not_across_clips() -> None:
    expected = torch.rand(4, 3, 64, 64)
    found = expected + torch.tensor([0.0, 0.1, 0.3, 0.0])[:, None, None, None]
    measure = Flicker()
    measure.add(found[:1], expected[:1], [(0, 0)])
    measure.add(found[1:], expected[1:], [(0, 1), (0, 2), (1, 3)])
    assert measure.value == pytest.approx(255 * 0.15, rel=1e-4)


def flicker(found: torch.Tensor, expected: torch.Tensor, frames: list[int]) -> float | None:
    measure = Flicker()
    measure.add(found, expected, [(0, frame) for frame in frames])
    return measure.value


def test_psnr_and_ssim_of_known_cases() -> None:
    assert psnr(1e-3) == pytest.approx(30)
    flat = torch.full((1, 3, 16, 16), 0.5)
    # Without any variance SSIM is what remains of its luminance term.
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    assert ssim(flat, flat / 2).item() == pytest.approx(expected)
    noise = torch.rand(1, 3, 32, 32)
    assert ssim(noise, 1 - noise).item() < -0.9


def test_opening_is_the_height_of_dark_and_teeth() -> None:
    heights = np.array([0.0, 0.0625, 0.125, 0.1875])
    for skin in (0.9, 0.5, 0.25):  # skins of several shades
        found = lip_opening(torch.stack([face(height, size=128, skin=skin) for height in heights]))
        np.testing.assert_allclose(found, heights, atol=0.005)


@pytest.mark.parametrize("lag", [-2, 0, 3, 12])
def test_shifted_opening_has_that_lag(lag) -> None:
    time = np.arange(60)
    known = 0.5 + 0.5 * np.sin(time / 3) * np.cos(time / 7)
    shown = np.roll(known, lag)
    measured = lip_opening(torch.stack([face(0.2 * value, size=128) for value in shown]))
    found = lip_correlation([(measured[12:50], known[12:50])])
    assert found.best_lag == lag
    assert found.best_correlation > 0.98
    assert (found.correlation < found.best_correlation) == (lag != 0)


def test_lips_that_are_late_are_not_forgiven() -> None:
    """Of the openings in speech: 80 ms cost a third of the correlation, not a hundredth."""
    known = np.array(json.loads((DATA / "demo-speech.json").read_text())["opening"])
    on_time, late = lip_correlation([(known, known)]), lip_correlation([(np.roll(known, 2), known)])
    assert on_time.correlation == pytest.approx(1)
    assert late.correlation < 0.75
    assert (late.best_lag, late.best_correlation) == (2, pytest.approx(1, abs=0.01))
    scores = Scores()
    scores.add_openings([np.roll(known, 2)], known)
    expected = {"correlation": late.correlation, "best_correlation": late.best_correlation, "best_lag": 2}
    assert scores.to_json()["lips"] == pytest.approx(expected, abs=1e-4)


def test_a_short_clip_counts_only_at_lags_that_leave_enough_of_it() -> None:
    known = np.sin(np.arange(14.0))
    assert lip_correlation([(np.roll(known, 2), known)]).best_lag == 2
    assert abs(lip_correlation([(np.roll(known, 3), known)]).best_lag) <= 2


def test_opening_that_does_not_move() -> None:
    assert lip_correlation([(np.zeros(30), np.sin(np.arange(30)))]) is None
    assert lip_correlation([(np.arange(5.0), np.arange(5.0))]) is None
    assert lip_correlation([]) is None


def test_command(small, tmp_path, capsys) -> None:
    checkpoint, shards = small
    make_decoder(read_checkpoint(checkpoint).vae.config, 8, 0).save_pretrained(tmp_path / "decoder")
    arguments = ["evaluate", str(checkpoint), "--teacher", str(checkpoint), "--decoder", str(tmp_path / "decoder")]
    assert main([*arguments, "--shards", str(shards), "-o", str(tmp_path / "report.json")]) == 0
    captured = capsys.readouterr()
    printed = captured.out.splitlines()
    report = json.loads((tmp_path / "report.json").read_text())
    bound, small_bound, teacher, same, small_decoder = report["models"]
    assert [line.split("  ")[0] for line in printed[1:6]] == [row["name"] for row in report["models"]]
    assert same["teacher"] == {"psnr": 100.0, "ssim": 1.0, "flicker": 0.0}
    assert [row["vae"] is None for row in report["models"]] == [True, False, True, True, False]
    assert same["truth"] == teacher["truth"]
    assert bound["unet_parameters"] == small_bound["unet_parameters"] == 0
    assert small_bound["decoder_gflop"] == small_decoder["decoder_gflop"]
    assert small_bound["truth"] != bound["truth"]
    assert same["unet_parameters"] == count(read_checkpoint(checkpoint).unet)
    assert small_decoder["decoder_gflop"] != same["decoder_gflop"]
    assert small_decoder["unet_gflop"] == same["unet_gflop"] > 0
    assert small_decoder["teacher"]["psnr"] < 40
    assert small_decoder["vae"] == small_decoder["teacher"]  # it is the same U-Net here
    assert small_decoder["vae"]["flicker"] > 1
    assert all(row["ms_spread"][0] <= row["ms"] <= row["ms_spread"][1] for row in report["models"])
    assert all(row["ms"] > 0 for row in report["models"])
    assert report["clips"] == 1
    assert printed[0].split("  ")[-3:] == ["lips r", "best r", "at lag"]


def test_milliseconds_are_cpu_time() -> None:
    """A call that only waits costs nothing, and one that differs from run to run is shown so."""
    low, middle, high = candidate._milliseconds(lambda: time.sleep(0.05), torch.device("cpu"))
    assert 0 <= low <= middle <= high < 25
    assert cli._milliseconds(10.0, [9.5, 10.5]) == "10.0"
    assert cli._milliseconds(10.0, [9.5, 14.5]) == "10.0+-4.5"


def test_progress_within_a_clip(small, monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "BATCH", 8)
    shown: list[str] = []
    evaluate.evaluate([small[0]], small[1], small[0], show=shown.append)
    assert [line.partition(", about")[0] for line in shown[:9]] == [
        f"clip 1 of 1: {frames} of 20 frames by 3 models" for frames in (2, 5, 8, 10, 13, 16, 17, 18, 20)
    ]
    assert shown[8].endswith("about 0 s left")
    assert shown[9:] == [f"what a frame costs: model {number} of 3" for number in (1, 2, 3)]


def test_work_is_counted_by_hand() -> None:
    from musetalk_distill.evaluate.candidate import gflop

    conv = torch.nn.Conv2d(4, 6, 3, padding=1)
    assert gflop(conv, torch.randn(1, 4, 500, 500)) == pytest.approx(2 * 4 * 6 * 9 * 500**2 / 1e9, abs=1e-4)


def test_shards_of_another_checkpoint(small, tmp_path, capsys) -> None:
    from musetalk_export.checkpoint.preset import init_checkpoint

    init_checkpoint("tiny", tmp_path / "tiny")
    arguments = ["evaluate", str(tmp_path / "tiny"), "--shards", str(small[1]), "-o", str(tmp_path / "report.json")]
    assert main(arguments) == 2
    assert "image_size is 128, the shards' 64" in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()


def test_neither_train_nor_evaluate_take_a_person_on_both_sides(small, tmp_path, capsys) -> None:
    checkpoint, shards = small
    shutil.copytree(shards, tmp_path / "shards")
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["clips"] = [{**clip, "speaker": "Ann"} for clip in manifest["clips"]]
    (tmp_path / "shards" / "manifest.json").write_text(json.dumps(manifest))
    for arguments in (
        ["train", str(tmp_path / "shards"), "--checkpoint", str(checkpoint), "-o", str(tmp_path / "run")],
        ["evaluate", str(checkpoint), "--shards", str(tmp_path / "shards"), "-o", str(tmp_path / "report.json")],
    ):
        assert main(arguments) == 2
        assert 'Ann has clips in "train" and in "val"' in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["shards"]
