"""Damaged weights: flipped bytes, wrong offsets, numbers that are none. Nothing is read as if it were right."""

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.graphs import assert_refused
from helpers.weights import assert_same, edit_weights, load
from musetalk_export.checkpoint.checkpoint import read_checkpoint
from musetalk_export.checkpoint.weights_files import find_weights
from musetalk_runtime.core.errors import InvalidCheckpoint

UNET, VAE = "student/unet.pth", "sd-vae/diffusion_pytorch_model.bin"


def flip(file: Path, first: int, last: int, count: int) -> None:
    """Change the lowest bit of `count` bytes between `first` and `last`."""
    content = bytearray(file.read_bytes())
    for place in np.random.default_rng(0).choice(np.arange(first, last), count, replace=False):
        content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("count", [1, 400])
def test_flipped_bytes_are_found_by_their_checksum(
    count: int, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(copied / UNET) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    start = largest.header_offset + 1000  # past its header and padding
    flip(copied / UNET, start, start + largest.file_size - 2000, count)
    words = [f"{UNET}: damaged: {largest.filename} does not have its checksum", "download or copy it again"]
    assert_refused(capsys, [str(copied)], tmp_path / "set", *words)


def test_flipped_bytes_anywhere_in_a_zip_are_found_or_harmless(copied: Path) -> None:
    whole, expected = (copied / VAE).read_bytes(), load(copied / VAE)
    found = 0
    for place in np.random.default_rng(1).choice(len(whole), 100, replace=False).tolist():
        (copied / VAE).write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            weights = find_weights(copied / "sd-vae").read()
        except InvalidCheckpoint:
            found += 1
        else:
            assert weights.keys() == expected.keys()
            assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
    assert found > 20


def test_the_end_of_a_zip_that_is_wrong(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (copied / UNET).read_bytes()
    end = content.rindex(b"PK\6\7")  # where ZIP64's last record is: how many disks it spans is at its end
    (copied / UNET).write_bytes(content[: end + 16] + struct.pack("<I", 7) + content[end + 20 :])
    assert_refused(capsys, [str(copied)], tmp_path / "set", f"{UNET}: damaged: ", "download or copy it again")


def test_weights_saved_without_checksums_are_read_and_told(
    musetalk_tree: Path, copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_checksums = getattr(torch.serialization, "set_crc32_options", None)
    if set_checksums is None:
        pytest.skip("this torch always writes checksums")
    set_checksums(False)
    try:
        edit_weights(copied / UNET, lambda weights: weights)
    finally:
        set_checksums(True)
    assert_same(copied, musetalk_tree)
    assert "unet.pth: it was saved without checksums" in caplog.text


def test_compressed_entries_are_refused(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of torch's that was zipped again: mapped, it would give other numbers."""
    with zipfile.ZipFile(copied / UNET) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(copied / UNET, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert_refused(capsys, [str(copied)], tmp_path / "set", f"{UNET}: its entries are compressed")


def test_an_older_format_of_torch_is_read(musetalk_tree: Path, copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(load(copied / UNET), copied / UNET, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(copied / UNET)
    assert_same(copied, musetalk_tree)
    assert "unet.pth: it was saved without checksums" in caplog.text


def test_a_torchscript_program_is_none(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(copied / UNET)
    recwarn.clear()
    assert_refused(capsys, [str(copied)], tmp_path / "set", f"{UNET}: a TorchScript program: save a state_dict")
    assert len(recwarn) == 0


def test_no_advice_of_torch_is_passed_on(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"conv_in.weight": torch.nn.Linear(2, 2)}, copied / UNET)
    assert_refused(capsys, [str(copied)], tmp_path / "set", "not a file of tensors only", "save a state_dict")
    torch.save(torch.nn.Linear(2, 2), copied / UNET, _use_new_zipfile_serialization=False)
    assert main_says(copied, tmp_path, capsys).count("weights_only") == 0


def main_says(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    from musetalk_export.cli import main

    assert main([str(copied), "-o", str(tmp_path / "set")]) == 2
    return capsys.readouterr().err


def test_an_empty_file_is_named(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / UNET).write_bytes(b"")
    assert_refused(capsys, [str(copied)], tmp_path / "set", f"{UNET}: is empty: download or copy it again")


def safetensors_of(copied: Path) -> tuple[Path, dict, bytes]:
    """The VAE's weights as safetensors alone: the file, its header, and what follows."""
    file = copied / "sd-vae" / "diffusion_pytorch_model.safetensors"
    save_file(load(copied / VAE), file)
    (copied / VAE).unlink()
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return file, json.loads(content[8 : 8 + length]), content[8 + length :]


def write(file: Path, header: object, data: bytes) -> None:
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("fault", ["overlap", "hole", "beyond", "short", "long", "shape", "negative", "huge header"])
def test_safetensors_whose_offsets_or_sizes_are_wrong(
    fault: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, header, data = safetensors_of(copied)
    names = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    entry = header[names[1]]
    begin, end = entry["data_offsets"]
    if fault == "overlap":
        entry["data_offsets"] = [begin - 4, end - 4]
    elif fault == "hole":
        header[names[-1]]["data_offsets"] = [offset + 4 for offset in header[names[-1]]["data_offsets"]]
        data += bytes(4)
    elif fault == "beyond":
        header[names[-1]]["data_offsets"] = [offset + (1 << 40) for offset in header[names[-1]]["data_offsets"]]
    elif fault == "shape":
        entry["shape"] = [*entry["shape"], 2]
    elif fault == "negative":
        entry["data_offsets"] = [-4, end]
    write(file, header, {"short": data[:-4], "long": data + bytes(4)}.get(fault, data))
    if fault == "huge header":
        file.write_bytes(struct.pack("<Q", 1 << 62) + file.read_bytes()[8:])
    assert_refused(capsys, [str(copied)], tmp_path / "set", f"{file}: cannot be read as safetensors: ")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("form", ["pth", "safetensors"])
@pytest.mark.parametrize("name", ["encoder.conv_in.weight", "decoder.conv_out.bias"])
def test_weights_that_are_not_finite_are_damaged(
    name: str, form: str, value: float, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copied / VAE
    weights = load(file)
    weights[name].view(-1)[-1] = value
    if form == "pth":
        torch.save(weights, file)
    else:
        file.unlink()
        file = file.with_suffix(".safetensors")
        save_file(weights, file)
    words = [f"{file}: NaN or infinity in 1 weights ({name})", "damaged"]
    assert_refused(capsys, [str(copied)], tmp_path / "set", *words)


def test_values_beyond_all_models_are_told(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, _, _ = safetensors_of(copied)
    weights = load_file(file)
    weights["encoder.conv_in.weight"].view(-1)[3] = 1e30  # its highest exponent bit was flipped
    save_file(weights, file)
    read_checkpoint(copied)
    assert "are its weights damaged? 1 have values beyond 65504 (encoder.conv_in.weight 1.0e+30)" in caplog.text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_floating_point_weights_are_read_as_fp32(dtype: torch.dtype, copied: Path) -> None:
    edit_weights(copied / UNET, lambda weights: {name: tensor.to(dtype) for name, tensor in weights.items()})
    assert {parameter.dtype for parameter in read_checkpoint(copied).unet.parameters()} == {torch.float32}


def test_weights_that_are_no_floating_point(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_weights(copied / UNET, lambda weights: weights | {"conv_out.bias": torch.zeros(4, dtype=torch.int8)})
    assert_refused(capsys, [str(copied)], tmp_path / "set", f"{UNET}: conv_out.bias is int8", "expected FP32")
    edit_weights(copied / UNET, lambda weights: weights | {"conv_out.bias": torch.ones(4).to_sparse()})
    assert_refused(capsys, [str(copied)], tmp_path / "set", f"{UNET}: conv_out.bias is float32", "sparse")
