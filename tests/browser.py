"""Headless Chromium for the tests, through the DevTools protocol on a pair of pipes: no driver, no port."""

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
MISSING = "no Chromium: on Debian, apt-get install -y chromium"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
SECONDS = 20
KEYS = {
    **{"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "Enter": 13, "Tab": 9},
    **{" ": 32, "b": 66, "j": 74, "k": 75, "+": 187, "-": 189},
}


def data_of(path):
    """Returns what the script of a page finds as JSON."""
    text = path.read_text("utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


class Browser:
    """A running Chromium; `open_page` gives pages in it."""

    def __init__(self, profile):
        # Chromium reads commands from descriptor 3 and answers on 4.
        redirect = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
        self._process = subprocess.Popen(
            ["sh", "-c", redirect, CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._received = b""
        self._count = 0
        self.events = []

    def call(self, method, session=None, **params):
        """Sends a command and returns its result; events that come meanwhile are kept in `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _receive(self, deadline):
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            chunk = os.read(self._process.stdout.fileno(), 1 << 20)
            assert chunk, "Chromium has ended"
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def close(self):
        with contextlib.suppress(AssertionError, BrokenPipeError):
            self.call("Browser.close")
        self._process.stdin.close()
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Page:
    """A page of a size, with a mouse or a finger."""

    def __init__(self, browser, path, *, width, height, is_touch=False, scheme="light"):
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=is_touch,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=is_touch)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def call(self, method, **params):
        return self._browser.call(method, self._session, **params)

    def evaluate(self, expression):
        """Returns the value of a JavaScript expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition):
        deadline = time.monotonic() + SECONDS
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, f"never came true: {condition}"
            time.sleep(0.02)

    def press(self, key, *, shift=False):
        common = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": 8 * shift}
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def point_of(self, selector, x=0.5, y=0.5):
        """Scrolls an element into view and returns window coordinates of a point in it, given in shares."""
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height] })()"
        )
        return {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}

    def click(self, selector, x=0.5, y=0.5):
        self.drag(self.point_of(selector, x, y))

    def drag(self, start, end=None):
        common = {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", buttons=1, **common, **start)
        if end is not None:
            self.call("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, **end)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **common, **(end or start))

    def hover(self, selector, x=0.5, y=0.5):
        """Moves the mouse to an element, from the corner of the window."""
        for point in ({"x": 0, "y": 0}, self.point_of(selector, x, y)):
            self.move(point)

    def move(self, point):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **point)

    def tap(self, selector, x=0.5, y=0.5):
        point = self.point_of(selector, x, y)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def reload(self):
        self.evaluate("window.isOld = true")
        self.call("Page.reload")
        self.wait_for("!window.isOld && document.readyState === 'complete'")

    def download(self, selector, folder):
        """Clicks on what saves a text file; returns the file's name and its text.

        Args:
            selector: of the button.
            folder: where the browser stores the file, under a name of its own.
        """
        first = len(self._browser.events)
        self._browser.call(
            "Browser.setDownloadBehavior",
            behavior="allowAndName",
            downloadPath=str(folder),
            eventsEnabled=True,
        )
        self.click(selector)
        deadline = time.monotonic() + SECONDS
        while True:
            self.evaluate("0")  # everything earlier has arrived with the answer
            events = [event["params"] | event for event in self._browser.events[first:]]
            if any(event.get("state") == "completed" for event in events):
                break
            assert time.monotonic() < deadline, "the download never ended"
            time.sleep(0.02)
        (begun,) = [event for event in events if event["method"] == "Browser.downloadWillBegin"]
        return begun["suggestedFilename"], (Path(folder) / begun["guid"]).read_bytes().decode("utf-8")

    def expect_quiet(self):
        """Sees that nothing went wrong in the page, and that it asked nobody for anything."""
        for kind in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            assert self.events(kind) == []
        urls = [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
        assert urls
        assert all(url.startswith(("file:", "data:", "blob:")) for url in urls)

    def events(self, method):
        """Returns the parameters of all events of a kind on this page."""
        self.evaluate("0")  # everything earlier has arrived with the answer
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == method
        ]

    def picture_of(self, selector):
        """Returns what an element looks like, a PNG in base64."""
        left, top = self.point_of(selector, 0, 0).values()
        right, bottom = self.point_of(selector, 1, 1).values()
        clip = {"x": left, "y": top, "width": right - left, "height": bottom - top, "scale": 1}
        clip["y"] += self.evaluate("scrollY")
        return self.call("Page.captureScreenshot", clip=clip)["data"]

    def close(self):
        self.call("Page.close")


@contextlib.contextmanager
def running():
    """Runs Chromium with a fresh profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            yield browser
        finally:
            browser.close()
