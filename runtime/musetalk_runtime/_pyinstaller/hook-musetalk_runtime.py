"""What PyInstaller does not find by itself: the demo, the web pages, and what is imported by its name."""

from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec

from PyInstaller.utils.hooks import collect_data_files, copy_metadata

WORKERS = ("output.processes.main", "output.relay", "prepare.worker", "tts.worker")
BY_NAME = ("PyNvVideoCodec", "tensorrt", "tensorrt_lean", "tensorrt_rtx_bindings", "hibari", "uvloop")
SERVES = ("fastapi", "uvicorn", "uvloop", "websockets")
REPORTED = ("musetalk-edge", "numpy", "av", "opencv-python-headless", "onnxruntime", *SERVES)

hiddenimports = [f"musetalk_runtime.{worker}" for worker in WORKERS]
hiddenimports += [name for name in BY_NAME if find_spec(name)]
datas = collect_data_files("musetalk_runtime")
for name in REPORTED:  # doctor tells the versions
    try:
        datas += copy_metadata(name)
    except PackageNotFoundError:
        continue
