"""The page of `audioae serve` in headless Chromium: no errors, no foreign requests, previews, jobs,
downloads, keyboard, accessibility.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_serve import LONG, Client, noise, serving, until, wav

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("AUDIOAE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), "")
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium; install it or set AUDIOAE_CHROMIUM to its path"
)
NAMES = ("talk.wav", '"><img src=x onerror=alert(1)> ü.wav', "notes.wav")
CONTROLS = ("Choose files", "Preset", "Quality", "Model", "Format", "Strength", "Stretch", "Play")
PLAYER = "document.querySelector('#player .stage') !== null && player !== null"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("serve")) as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two recordings, and a text with the name of one."""
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / name for name in NAMES]
    for path, data in zip(paths, (wav(noise(12.0)), wav(noise(2.0)), b"text"), strict=True):
        path.write_bytes(data)
    return paths


class Visit:
    """The page in the browser, with what it printed and requested."""

    def __init__(self, browser: Any, client: Client, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.url = f"http://127.0.0.1:{client.port}/"
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(self.url)
        self.wait("limits.max_bytes > 0")
        self.choose("speech-small-16k", "fast")

    def choose(self, model: str, quality: str) -> None:
        self.page.get_by_label("Model").select_option(model)
        self.page.get_by_label("Quality").select_option(quality)

    def wait(self, expression: str, seconds: float = 60) -> Any:
        # `wait_for_function` of playwright needs eval, which the policy of the page refuses
        return until(lambda: self.page.evaluate(expression), seconds)

    def states(self) -> list[str]:
        return list(self.page.evaluate("entries.map((each) => each.upload?.state ?? each.problem)"))

    @property
    def foreign(self) -> list[str]:
        return [url for url in self.requests if not url.startswith((self.url, "data:", "blob:"))]


@contextmanager
def visiting(browser: Any, client: Client, **options: Any) -> Iterator[Visit]:
    visit = Visit(browser, client, **options)
    try:
        yield visit
    finally:
        visit.page.close()
        for upload in list(client.service.store._uploads.values()):
            client.service.remove(upload)


def test_from_the_file_to_the_archive(browser: Any, client: Client, files: list[Path]) -> None:
    with visiting(browser, client) as visit:
        page = visit.page
        page.set_input_files("#files", files)
        visit.wait("entries.length === 3 && entries.every((each) => each.upload || each.problem)")
        assert "audio" in visit.states()[2]
        shown = page.locator(".list .name").all_inner_texts()
        assert shown[0] == NAMES[0] and page.locator("main img").count() == 0
        # a preview comes by itself and is replaced while it plays
        visit.wait(PLAYER)
        page.get_by_role("button", name="Listen talk.wav").click()
        visit.wait("player?.seconds === 8")
        assert page.evaluate("[player.selected, player.seconds, player.looping]") == [1, 8, True]
        page.get_by_role("button", name="Play", exact=True).click()
        visit.wait("player.playing && player.now() > 0")
        old = page.evaluate("(window.first = player, previewNumber)")
        page.get_by_label("Strength").focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator("#strength-value").inner_text() == "99 %"
        visit.wait(f"previewNumber > {old} && player && player !== window.first")
        assert page.evaluate("player.playing && player.selected === 1")
        page.locator("#listening-title").click()
        for key, number in (("1", 0), ("3", 2), ("2", 1)):
            page.keyboard.press(key)
            assert page.evaluate("player.selected") == number
        page.keyboard.press("Space")
        assert not page.evaluate("player.playing")
        # the whole recordings
        page.get_by_role("button", name="Denoise all").click()
        visit.wait("entries.filter((each) => each.upload?.state === 'done').length === 2")
        visit.wait("player?.scope === 'result' && player.seconds === 12")
        assert page.locator("#figures dd").count() == 4
        with page.expect_download() as one:
            page.get_by_role("link", name="Download talk.wav").click()
        assert one.value.suggested_filename == "talk-denoised.wav"
        with page.expect_download() as many:
            page.get_by_role("link", name="Download all").click()
        with zipfile.ZipFile(io.BytesIO(Path(many.value.path()).read_bytes())) as archive:
            assert len(archive.namelist()) == 2 and archive.testzip() is None
        # reloading keeps them, removing removes them
        page.reload()
        visit.wait("player?.scope === 'result'")
        page.get_by_role("button", name="Remove all").click()
        until(lambda: len(client.service.store) == 0)
        assert page.locator("#recordings").is_hidden() and page.locator("#listening").is_hidden()
        refused = [each for each in visit.messages if "422" not in each]  # of the text
        assert refused == [] and visit.foreign == []


def test_a_job_is_cancelled_and_a_lost_upload_reported(
    browser: Any, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "long.wav").write_bytes(LONG)
    with visiting(browser, client) as visit:
        page = visit.page
        visit.choose("speech-16k", "best")
        page.set_input_files("#files", tmp_path / "long.wav")
        page.get_by_role("button", name="Denoise long.wav").click(timeout=60_000)
        visit.wait("entries[0].upload.state === 'running'")
        assert page.get_by_role("progressbar").get_attribute("aria-label") == "Denoising long.wav"
        page.get_by_role("button", name="Cancel long.wav").click()
        visit.wait("entries[0].upload.state === 'cancelled'")
        client("DELETE", f"/api/files/{page.evaluate('entries[0].upload.id')}")
        page.evaluate("poll()")
        visit.wait("entries[0].problem")
        page.get_by_role("button", name="Remove long.wav").click()
        assert page.evaluate("entries.length") == 0


def test_no_accessibility_violation(browser: Any, client: Client, files: list[Path]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    with visiting(browser, client, bypass_csp=True) as visit:
        page = visit.page
        page.set_input_files("#files", files)
        visit.wait(PLAYER)
        page.get_by_role("button", name="Listen talk.wav").click()
        page.get_by_role("button", name="Denoise talk.wav").click()
        visit.wait("player?.scope === 'result'")
        for width in (360, 1280):
            for scheme in ("light", "dark"):
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                found = axe.Axe().run(page).response["violations"]
                assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
                assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.goto(f"{visit.url}docs")
        until(lambda: page.locator("h3").count() > 5)
        found = axe.Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []


def test_every_control_is_reached_by_the_keyboard(
    browser: Any, client: Client, files: list[Path]
) -> None:
    with visiting(browser, client) as visit:
        page = visit.page
        page.set_input_files("#files", files[:1])
        visit.wait(PLAYER)
        seen = []
        for _ in range(60):
            page.keyboard.press("Tab")
            name, outline = page.evaluate(
                """() => {
                  const found = document.activeElement;
                  const label = found.labels?.[0]?.textContent;
                  const box = found.type === "file" ? found.nextElementSibling :
                    found.type === "radio" ? found.parentElement : found;
                  const shown = [box, found].map((each) => getComputedStyle(each).outlineStyle);
                  const name = found.getAttribute("aria-label") || label || found.textContent;
                  return [name, shown.find((each) => each !== "none") ?? "none"];
                }"""
            )
            if page.evaluate("document.activeElement === document.body"):
                break
            seen.append(name)
            assert name.strip() and outline != "none", (name, outline)
        for word in (*CONTROLS, "Listen talk.wav", "Denoise talk.wav", "Remove talk.wav"):
            assert any(word in name for name in seen), (word, seen)
