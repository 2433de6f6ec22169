"""``python -m musetalk_engines.trt.rebuild BUNDLE GRAPH VARIANT FOLDER``: one plan of a bundle, for the GPU at hand.

``musetalk-edge certify`` runs it where a plan of TensorRT for RTX is off. The bundle holds the graphs.
"""

import sys
from pathlib import Path

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.build_rtx import build_rtx_plan
from musetalk_engines.trt.options import BuildOptions
from musetalk_runtime.bundle import BUNDLE_KIND, BUNDLE_SCHEMA
from musetalk_runtime.core.errors import MuseTalkEdgeError
from musetalk_runtime.storage.folder import read_folder


def rebuild(bundle: Path, graph: str, variant: str, folder: Path) -> None:
    """Write ``<graph>.plan`` to `folder`, for what the bundle was built for; raises PlanError or InvalidFolder."""
    manifest = read_folder(bundle, BUNDLE_KIND, BUNDLE_SCHEMA)
    models = ModelSet(bundle, {**manifest, "precision": manifest["graph_precision"]})
    options = BuildOptions(
        batch_sizes=tuple(manifest["batch_sizes"]),
        precision=manifest["precision"],
        targets=tuple(manifest["built_for"]),
    )
    build_rtx_plan(models, graph, folder, options, lambda text: print(text, flush=True), variant)


def main() -> None:
    try:
        rebuild(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    except MuseTalkEdgeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
