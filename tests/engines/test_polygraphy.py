"""polygraphy, which docs/engines.md examines graphs with, reads ours."""

import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from musetalk_runtime.demo import BUNDLE


@pytest.mark.parametrize("engine", ["generator", "vae_encoder", "audio_encoder"])
def test_polygraphy_describes_a_graph(engine: str, tmp_path: Path) -> None:
    """Of a copy: uv may install by hard links, and onnx refuses weights that have several."""
    file = tmp_path / f"{engine}.onnx"
    for name in (file.name, f"{file.name}.data"):
        shutil.copyfile(BUNDLE / name, tmp_path / name)
    command = [Path(sys.executable).with_name("polygraphy"), "inspect", "model", file, "--show", "layers"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    graph = onnx.load(file, load_external_data=False).graph
    assert f"---- {len(graph.node)} Node(s) ----" in done.stdout
    assert [value.name for value in (*graph.input, *graph.output) if f"{value.name} [dtype=" not in done.stdout] == []
