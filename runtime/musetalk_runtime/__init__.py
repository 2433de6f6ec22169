"""The lean runtime of musetalk-edge: speech and an avatar in, a talking face out, as a stream.

The public API is what ``__all__`` lists, and of its classes what has no underscore before its name; docs/api.md says
how it may change. Names are resolved on first use, so importing the package costs nothing but itself.
The import also sets the environment variables that turn the telemetry of dependencies off.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime's Linux wheels describe the machine and its models to a collector, and Hugging Face's libraries count
# downloads, unless these are set when they are imported. A value that the user has set stays. See docs/privacy.md.
for _switch in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_switch, "1")

if TYPE_CHECKING:
    from musetalk_runtime.audio.live import PipeReader
    from musetalk_runtime.avatar.pack import Avatar
    from musetalk_runtime.backends.cuda.device_frame import DeviceFrame
    from musetalk_runtime.bundle import Bundle
    from musetalk_runtime.core.errors import (
        AvatarMismatch,
        FaceNotFound,
        InputNotFound,
        InvalidArgument,
        InvalidFolder,
        InvalidMedia,
        MachineError,
        MuseTalkEdgeError,
        OutputError,
    )
    from musetalk_runtime.core.version import __version__
    from musetalk_runtime.frame import Frame, GpuFrame
    from musetalk_runtime.output.video import VideoOptions
    from musetalk_runtime.session import Session
    from musetalk_runtime.tts.synthesizer import SpeechSynthesizer
    from musetalk_runtime.tts.text_audio import TextAudio

__all__ = [
    "Avatar",
    "AvatarMismatch",
    "Bundle",
    "DeviceFrame",
    "FaceNotFound",
    "Frame",
    "GpuFrame",
    "InputNotFound",
    "InvalidArgument",
    "InvalidFolder",
    "InvalidMedia",
    "MachineError",
    "MuseTalkEdgeError",
    "OutputError",
    "PipeReader",
    "Session",
    "SpeechSynthesizer",
    "TextAudio",
    "VideoOptions",
    "__version__",
]

_HOMES = {
    "Avatar": "avatar.pack",
    "AvatarMismatch": "core.errors",
    "Bundle": "bundle",
    "DeviceFrame": "backends.cuda.device_frame",
    "FaceNotFound": "core.errors",
    "Frame": "frame",
    "GpuFrame": "frame",
    "InputNotFound": "core.errors",
    "InvalidArgument": "core.errors",
    "InvalidFolder": "core.errors",
    "InvalidMedia": "core.errors",
    "MachineError": "core.errors",
    "MuseTalkEdgeError": "core.errors",
    "OutputError": "core.errors",
    "PipeReader": "audio.live",
    "Session": "session",
    "SpeechSynthesizer": "tts.synthesizer",
    "TextAudio": "tts.text_audio",
    "VideoOptions": "output.video",
    "__version__": "core.version",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
