"""The demo in the package: a bundle for any CPU, an avatar that fits it, and a speech.

The person is drawn, the voice is eSpeak NG's, and the model was trained on nothing else: see ``scripts/demo_recipe``.
"""

from pathlib import Path


def _folder() -> Path:
    beside = Path(__file__).with_name("demo_data")
    if beside.is_dir():
        return beside
    from musetalk_runtime.storage.unpacked import unpacked  # for a package in a zip archive

    return unpacked("musetalk_runtime", beside.name)


FOLDER = _folder()
BUNDLE, AVATAR, SPEECH = FOLDER / "bundle", FOLDER / "avatar", FOLDER / "speech.wav"
