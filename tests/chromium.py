"""A headless Chromium for tests, driven over its own DevTools protocol.

Small on purpose: start, open a page from a file, run JavaScript in it, move
the mouse, take pictures, and collect everything that the browser complained
about or tried to fetch.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--hide-scrollbars", "--disable-dev-shm-usage", "--force-color-profile=srgb", "--lang=en-US",
    "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE_SECONDS = 60


class BrowserError(AssertionError):
    """The page threw, or the browser refused what it was asked."""


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A Chromium with an empty profile in ``profile``; it ends with the block."""
    program = next(filter(None, map(shutil.which, PROGRAMS)))
    profile.mkdir(parents=True, exist_ok=True)
    with (profile / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log
        )
        try:
            yield Browser(_endpoint(profile, process))
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def _endpoint(profile: Path, process: subprocess.Popen[bytes]) -> str:
    port_file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if port_file.is_file() and len(lines := port_file.read_text().splitlines()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise BrowserError(f"Chromium did not start: {(profile / 'chromium.log').read_text(errors='replace')[-2000:]}")


@dataclass
class Browser:
    """A running browser."""

    endpoint: str

    @contextmanager
    def page(
        self, path: Path, *, width: int, height: int = 900, query: str = "", phone: bool = False
    ) -> Iterator[Page]:
        """A tab that has loaded the file at ``path``."""
        with connect(self.endpoint, max_size=None, proxy=None) as socket:
            page = Page(socket)
            target = page.call("Target.createTarget", url="about:blank")["targetId"]
            page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            page.resize(width, height, phone=phone)
            page.call("Page.navigate", url=f"{path.as_uri()}{query}")
            page.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
            yield page
            page.session = None
            page.call("Target.closeTarget", targetId=target)


@dataclass
class Page:
    """One tab: ``complaints`` are console errors, exceptions and warnings; ``requests`` the addresses it asked for."""

    socket: ClientConnection
    session: str | None = None
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _last: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE_SECONDS))
            self._note(answer)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.run(expression) is not True:
            if time.monotonic() > deadline:
                raise BrowserError(f"still not true: {expression}; the page said {self.complaints}")
            time.sleep(0.05)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the page another size in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def hover(self, x: float, y: float) -> None:
        """Move the mouse there, as a person does: with a step before."""
        for offset in (3, 0):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + offset, y=y + offset)

    def picture(self, selector: str | None, path: Path) -> Path:
        """Save a PNG of an element, or of the whole page."""
        what = f"document.querySelector({json.dumps(selector)})" if selector else "document.documentElement"
        box = self.run(
            f"(r => ({{x: r.left + scrollX, y: r.top + scrollY, width: r.width, height: r.height}}))"
            f"({what}.getBoundingClientRect())"
        )
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip={**box, "scale": 1})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _note(self, message: dict[str, Any]) -> None:
        """Keep what the browser reports on the side."""
        told = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if told["type"] in {"error", "warning", "assert"}:
                self.complaints.append(
                    " ".join(str(each.get("value", each.get("description"))) for each in told["args"])
                )
            case "Log.entryAdded" if told["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(told["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case _:
                return
