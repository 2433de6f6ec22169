"""The demo in the package: a bundle for any CPU, an avatar that fits it, and a speech.

The person is drawn, the voice is eSpeak NG's, and the model was trained on nothing else: see ``scripts/demo_recipe``.
"""

from pathlib import Path

FOLDER = Path(__file__).with_name("demo_data")
BUNDLE, AVATAR, SPEECH = FOLDER / "bundle", FOLDER / "avatar", FOLDER / "speech.wav"
