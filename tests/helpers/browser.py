"""A real browser on the service's page, by Chrome's DevTools protocol."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from helpers.service_client import until

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
]  # fmt: skip

WATCH = """
window.times = []; window.problems = []; window.v = document.getElementById("video");
setInterval(() => times.push(v.currentTime), 20);
addEventListener("error", event => problems.push(event.message));
addEventListener("unhandledrejection", event => problems.push(String(event.reason)));
addEventListener("securitypolicyviolation", event => problems.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class Page:
    """One tab. What happens in it is in its lists ``times`` (of the video, 20 ms apart) and ``problems``."""

    def __init__(self, socket: ClientConnection, url: str, script: str) -> None:
        self._socket = socket
        self._number = 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        source = f"addEventListener('DOMContentLoaded', () => {{{script}}})"
        self.call("Page.addScriptToEvaluateOnNewDocument", source=source)
        self.call("Page.navigate", url=url)

    def open(self, url: str) -> None:
        """Load `url` anew, whatever was shown, and wait until it can be used."""
        for address in ("about:blank", url):
            self.call("Page.navigate", url=address)
        self.ready()

    def ready(self) -> None:
        """Wait until the controls can be used: what was clicked on is done."""
        self.until("document.getElementById('record')?.getAttribute('aria-disabled') === 'false'")

    def run(self, script: str) -> Any:
        """The value of a script, awaited, as if a person had just clicked."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def click(self, name: str) -> None:
        """Click on what has the id `name`, once it can be clicked on."""
        self.until(f"document.getElementById('{name}').getAttribute('aria-disabled') !== 'true'")
        self.run(f"document.getElementById('{name}').click()")

    def text(self, name: str) -> str:
        """What is shown in what has the id `name`; nothing while it is hidden."""
        found: str = self.run(f"document.getElementById('{name}').innerText")
        return found if self.run(f"document.getElementById('{name}').checkVisibility()") else ""

    def until(self, script: str, seconds: float = 60.0) -> None:
        try:
            until(lambda: self.run(f"Boolean({script})"), script, seconds)
        except AssertionError:
            raise AssertionError(f"{script}: {self.run('document.body.innerText')}") from None

    def key(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def choose(self, selector: str, file: Path) -> None:
        """Choose `file` in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def picture(self, file: Path) -> None:
        """Save what is seen, as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if (session := getattr(self, "_session", None)) and not method.startswith("Browser."):
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while (answer := json.loads(self._socket.recv(timeout=60))).get("id") != self._number:
            pass
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result


@contextmanager
def browsing(url: str, profile: Path, *options: str, ready: bool = True, script: str = WATCH) -> Iterator[Page]:
    """Chromium, with its `profile` in a folder, on `url`; `ready` to be used unless it has something to ask before.

    `script` runs in each page it opens.
    """
    assert BROWSER
    command = [BROWSER, *OPTIONS, *options, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            until(lambda: len(_devtools(profile)) == 2, "Chromium starts")
            port, path = _devtools(profile)
            with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
                page = Page(socket, url, script)
                if ready:
                    page.ready()
                yield page
        finally:
            browser.terminate()


def _devtools(folder: Path) -> list[str]:
    """The port and the path of Chromium's DevTools, once they are there."""
    file = folder / "DevToolsActivePort"
    return file.read_text().split() if file.exists() else []
