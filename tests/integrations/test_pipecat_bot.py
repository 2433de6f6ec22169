"""The example bot, driven by a real browser."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("pipecat.transports.smallwebrtc.transport", reason="pipecat-ai[webrtc] is not installed")

from helpers.browser import BROWSER, Page, browsing
from helpers.paths import ROOT
from helpers.service_client import Client, HeldPort, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(find_spec("hibari") is None, reason="hibari-tts is not installed: the extra say"),
]

FIGURES = """(async () => {
  const found = {};
  for (const report of (await peer.getStats()).values())
    if (report.type === "inbound-rtp") found[report.kind] = report;
  const [frames, energy] = [found.video?.framesDecoded ?? 0, found.audio?.totalAudioEnergy ?? 0];
  return { frames, energy, width: video.videoWidth };
})()"""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with HeldPort() as held:
        command = [sys.executable, str(ROOT / "examples" / "pipecat_bot.py"), "--port", str(held.port)]
        with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as bot:
            try:
                until(lambda: bot.poll() is None and answers(held.port), "the bot serves its page")
                with browsing(f"http://127.0.0.1:{held.port}/", tmp_path / "profile", ready=False) as opened:
                    yield opened
            finally:
                bot.terminate()


def answers(port: int) -> bool:
    try:
        return Client(port).ask("GET", "/")[0] == 200
    except OSError:
        return False


def test_the_example_bot_greets_and_says_what_is_written(page: Page) -> None:
    page.until("document.getElementById('start')?.onclick")
    page.run("document.getElementById('start').click()")
    page.until("window.peer?.connectionState === 'connected'")
    until(lambda: page.run(FIGURES)["energy"] > 1e-4, "the greeting is heard")
    until(lambda: quiet(page), "the greeting is over")
    until(lambda: page.run(FIGURES)["frames"] > 50, "pictures come")
    before = page.run(FIGURES)
    assert before["width"] == 512
    page.run("text.value = 'Now I say this.'; text.onchange(); undefined")
    until(lambda: page.run(FIGURES)["energy"] > before["energy"] + 1e-4, "what was written is heard")
    frames = page.run(FIGURES)["frames"]
    until(lambda: page.run(FIGURES)["frames"] > frames + 50, "pictures come on")
    assert page.run("problems") == []


def quiet(page: Page) -> bool:
    """Whether nothing is heard for a second."""
    first = page.run(FIGURES)["energy"]
    page.run("new Promise((done) => setTimeout(done, 1000))")
    return bool(page.run(FIGURES)["energy"] - first < 1e-6)
