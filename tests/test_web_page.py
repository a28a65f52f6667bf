"""The pages of `audioae report` in headless Chromium, opened from file://: no errors, no requests,
tracks that are switched in sync, keyboard, accessibility.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audioae.web import match_folders, write_folder_report, write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("AUDIOAE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), "")
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium; install it or set AUDIOAE_CHROMIUM to its path"
)
RATE = 48000
SECONDS = 4.0
CLICK = 0.1  # seconds between two clicks
WIDTHS = {"phone": 390, "desktop": 1280}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


class Visit:
    """A page in the browser, with what it printed and requested."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: self.messages.append(dialog.message))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error: object) -> None:
        self.page.close()

    def player(self, expression: str) -> Any:
        return self.page.evaluate(f"() => audioaePlayer.{expression}")

    def wait(self, expression: str) -> None:
        self.page.wait_for_function(f"() => audioaePlayer.{expression}", timeout=20_000)

    @property
    def network(self) -> list[str]:
        """Requests other than the page itself and its data: URIs."""
        return [url for url in self.requests[1:] if not url.startswith("data:")]


def clicks() -> np.ndarray:
    """Noise with a click each `CLICK` seconds, whose height counts: the n-th is .3 + n / 100."""
    samples = np.random.default_rng(0).normal(0, 1e-3, round(SECONDS * RATE))
    for number in range(1, round(SECONDS / CLICK)):
        samples[round(number * CLICK * RATE) :][:24] = 0.3 + number / 100
    return samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    """A report whose tracks all have clicks at the same times."""
    noisy = clicks()
    soundfile.write(folder / "noisy.wav", noisy, RATE)
    soundfile.write(folder / "enhanced.wav", 0.5 * noisy, RATE)
    write_report(folder / "report.html", folder / "noisy.wav", folder / "enhanced.wav")
    return folder / "report.html"


def test_the_page_opens_without_messages_and_requests(browser: Any, page: Path) -> None:
    with Visit(browser, page) as visit:
        visit.wait("images.every(({tiles}) => tiles.every(({image}) => image.complete))")
        assert visit.page.title().startswith("enhanced.wav")
        assert visit.messages == []
        assert visit.network == []
        assert visit.player("context") is None  # no audio device before the user plays


# The bytes of a part that is asked for while the page is read: before its end, and after it.
EARLY = """async () => {
  Object.defineProperty(document, "readyState", {value: "loading", configurable: true});
  let early = null;
  const waiting = loadBytes("#audio-before-0").then((bytes) => (early = bytes.byteLength));
  await new Promise((done) => setTimeout(done, 50));
  const before = early;
  document.dispatchEvent(new Event("DOMContentLoaded"));
  return [before, await waiting];
}"""


def test_the_player_does_not_wait_for_the_audio_of_the_page(browser: Any, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.index("class AudioaePlayer") < text.index('id="audio-before-0"')
    with Visit(browser, page) as visit:
        before, after = visit.page.evaluate(EARLY)
        assert before is None and after > 1000
        assert visit.messages == []


# Renders what the player plays without a sound device, sample by sample and at any speed: its
# context is an OfflineAudioContext, which stops at the times of the choices.
RENDER = """async ([rate, seconds, choices, parts]) => {
  const context = new OfflineAudioContext(1, rate * seconds, rate);
  const resume = context.resume.bind(context);
  context.resume = async () => {};
  window.AudioContext = function () { return context; };
  const player = audioaePlayer;
  player.match(false);
  await player.play();
  while (player.ready.size < parts) await new Promise((done) => setTimeout(done, 10));
  player.schedule();
  for (const [time, number] of choices) {
    context.suspend(time).then(() => { player.select(number); resume(); });
  }
  const rendered = await context.startRendering();
  return Array.from(rendered.getChannelData(0));
}"""


def rendered(
    visit: Visit, seconds: float, choices: list[tuple[float, int]] | None = None, parts: int = 1
) -> np.ndarray:
    """What the player plays from its position on, `[samples]` at `RATE`."""
    return np.array(visit.page.evaluate(RENDER, [RATE, seconds, choices or [], parts]))


def click_places(samples: np.ndarray) -> np.ndarray:
    """The starts of the clicks in samples."""
    loud = np.flatnonzero(np.abs(samples) > 0.05)
    return loud[np.diff(loud, prepend=-(10**9)) > 0.02 * RATE]


def test_tracks_are_switched_in_sync_while_they_play(browser: Any, page: Path) -> None:
    with Visit(browser, page) as visit:
        samples = rendered(visit, 2.4, [(0.7, 1), (1.25, 2), (1.75, 0)])
        assert visit.messages == []
    places = click_places(samples)
    assert len(places) == 23
    # One clock: the clicks of all tracks are on one grid, and none is missing or heard twice.
    assert np.abs(np.diff(places) / RATE - CLICK).max() < 0.001
    # And each track is heard in its time, at its own level: 1, a half, a half, 1.
    heights = np.array([np.abs(samples[place : place + 96]).max() for place in places])
    levels = heights / (0.3 + np.arange(1, 24) / 100)
    halved = (places / RATE > 0.7) & (places / RATE < 1.75)
    assert np.abs(levels - np.where(halved, 0.5, 1)).max() < 0.15


def test_a_loop_repeats_its_part(browser: Any, page: Path) -> None:
    with Visit(browser, page) as visit:
        visit.player("setLoop([1.0, 1.4])")
        visit.player("toggleLoop()")
        assert visit.player("looping")
        visit.player("seek(1.05)")
        samples = rendered(visit, 1.6)
        assert 1.0 <= visit.player("now()") <= 1.4
    places = click_places(samples)
    assert len(places) >= 15
    # 0.4 s is a multiple of the distance. The click at 1.0 is cut by the cross-fade.
    assert np.abs(np.diff(places) / RATE - CLICK).max() < 0.012
    heights = np.array([np.abs(samples[place : place + 96]).max() for place in places])
    assert np.abs(heights[4:12] - heights[:8]).max() < 0.1  # the same clicks again


def test_the_loudness_is_matched(browser: Any, page: Path) -> None:
    with Visit(browser, page) as visit:
        gains = visit.player("tracks.map((track) => track.gainDb)")
        assert gains[1] - gains[0] == pytest.approx(20 * np.log10(2), abs=0.1)
        visit.player("select(1)")
        assert visit.player("gainOf(1)") == pytest.approx(10 ** (gains[1] / 20))
        assert visit.player("gainOf(0)") == 0
        visit.page.keyboard.press("m")
        assert visit.player("gainOf(1)") == 1


def test_the_keyboard_works(browser: Any, page: Path) -> None:
    with Visit(browser, page) as visit:
        press = visit.page.keyboard.press
        for key, number in (("2", 1), ("3", 2), ("1", 0)):
            press(key)
            assert visit.player("selected") == number
            assert visit.page.locator("input[type=radio]").nth(number).is_checked()
        press("Shift+ArrowRight")
        assert visit.player("position") == 1
        press("ArrowRight")
        assert visit.player("position") == SECONDS
        press("ArrowLeft")
        press("ArrowLeft")
        assert visit.player("position") == 0
        press("+")
        assert visit.player("view[1]") == SECONDS / 2
        press("-")
        assert visit.player("view") == [0, SECONDS]
        press("Shift+ArrowRight")
        press("[")
        press("Shift+ArrowRight")
        press("]")
        assert visit.player("loop") == [1, 2] and visit.player("looping")
        press("Escape")
        assert visit.player("loop") is None
        press("Space")
        visit.wait("playing && audioaePlayer.now() > 2.2")
        press("Space")
        assert not visit.player("playing")
        assert visit.page.get_by_role("button", name="Play", exact=True).is_visible()
        # Keys of the controls themselves: Space on a button presses it and does not play.
        visit.page.get_by_role("button", name="Zoom in").focus()
        press("Space")
        # The view is centred on the place of playing, which differs from run to run.
        width = visit.player("view[1] - audioaePlayer.view[0]")
        assert width == pytest.approx(SECONDS / 2, abs=1e-9)
        assert not visit.player("playing")
        assert visit.messages == []


def test_a_click_seeks_and_a_drag_selects(browser: Any, page: Path) -> None:
    with Visit(browser, page, viewport={"width": 1280, "height": 900}) as visit:
        box = visit.page.locator(".overlay").bounding_box()
        at = lambda share: (box["x"] + share * box["width"], box["y"] + 40)
        visit.page.mouse.click(*at(0.5))
        assert visit.player("position") == pytest.approx(SECONDS / 2, abs=0.02)
        visit.page.mouse.move(*at(0.25))
        visit.page.mouse.down()
        visit.page.mouse.move(*at(0.4))
        visit.page.mouse.move(*at(0.5))
        visit.page.mouse.up()
        loop = visit.player("loop")
        assert loop == pytest.approx([SECONDS / 4, SECONDS / 2], abs=0.02)
        assert visit.player("looping")


def test_playing_ends_at_the_end(browser: Any, page: Path) -> None:
    with Visit(browser, page) as visit:
        visit.player("seek(3.8)")
        visit.player("play()")
        visit.wait("playing === false")
        assert visit.player("position") == SECONDS


def test_no_accessibility_violation(browser: Any, page: Path) -> None:
    """axe-core: names, roles, labels, contrast (WCAG 2.2 AA)."""
    with Visit(browser, page, bypass_csp=True) as visit:
        for width, scheme in product(WIDTHS.values(), ("light", "dark")):
            visit.page.set_viewport_size({"width": width, "height": 900})
            visit.page.emulate_media(color_scheme=scheme)
            assert axe_violations(visit) == []
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def axe_violations(visit: Visit) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    found = axe.Axe().run(visit.page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]


def test_every_control_has_a_name_and_a_focus_outline(browser: Any, page: Path) -> None:
    with Visit(browser, page) as visit:
        visit.player("setLoop([1, 2])")
        seen = []
        for _ in range(30):
            visit.page.keyboard.press("Tab")
            name, outline = visit.page.evaluate(
                """() => {
                  const found = document.activeElement;
                  const label = found.labels?.[0]?.textContent;
                  const box = found.type === "radio" ? found.parentElement : found;
                  const name = found.getAttribute("aria-label") || label || found.textContent;
                  return [name, getComputedStyle(box).outlineStyle];
                }"""
            )
            if visit.page.evaluate("document.activeElement === document.body"):
                break
            seen.append(name)
            assert name.strip() and outline != "none", (name, outline)
        for word in ("Play", "Position", "Match loudness", "Loop", "Start", "End", "Zoom in"):
            assert any(word in name for name in seen), (word, seen)


def test_the_index_is_sorted_filtered_and_accessible(
    browser: Any, folder: Path, page: Path
) -> None:
    for side, factor in (("in", 1.0), ("out", 0.5)):
        (folder / side / "sub #1").mkdir(parents=True)
        rng = np.random.default_rng(1)
        for name, seconds in (("b", 0.5), ("a", 1.5), ("sub #1/c?", 1.0)):
            samples = factor * rng.normal(0, 0.1, round(16000 * seconds))
            soundfile.write(folder / side / f"{name}.wav", samples, 16000)
    (folder / "in" / "broken.wav").write_bytes(b"no audio")
    matches = match_folders(folder / "in", folder / "out")
    write_folder_report(matches, folder / "reports", title="Test")
    with Visit(browser, folder / "reports" / "index.html", bypass_csp=True) as visit:
        names = lambda: visit.page.locator("tbody tr:visible td:first-child").all_inner_texts()
        assert names()[0].startswith("broken.wav")
        visit.page.get_by_role("button", name="Duration").click()
        assert [name[:1] for name in names()] == ["b", "s", "a", "b"]  # unknown is last
        visit.page.get_by_role("button", name="Duration").click()
        assert [name[:1] for name in names()] == ["a", "s", "b", "b"]
        header = visit.page.locator("th[aria-sort]")
        assert header.get_attribute("aria-sort") == "descending"
        visit.page.get_by_label("Filter").fill("sub")
        assert len(names()) == 1
        assert axe_violations(visit) == []
        visit.page.get_by_role("link", name="sub #1/c?.wav").click()
        visit.page.wait_for_function("() => window.audioaePlayer?.seconds === 1")
        visit.page.get_by_role("link", name="All recordings").click()
        visit.page.wait_for_function("() => document.title === 'Test'")
        assert visit.messages == []


def test_names_are_text_and_never_markup(browser: Any, folder: Path) -> None:
    names = ['"><img src=x onerror=alert(1)>.wav', "</script><script>alert(2)</script>\n'ü✓.wav"]
    places = [folder / name.replace("/", "\u2215") for name in names]
    for place in places:
        soundfile.write(place, clicks()[:RATE], RATE)
    path = folder / "names.html"
    write_report(path, *places)
    with Visit(browser, path) as visit:
        assert visit.page.locator("h1").inner_text() == (
            "<\u2215script><script>alert(2)<\u2215script>\\n'ü✓.wav"
        )
        assert names[0] in visit.page.locator(".lead").inner_text()
        assert visit.page.locator("img, iframe").count() == 0
        assert visit.messages == []


def test_a_single_recording_has_a_player_without_a_choice(browser: Any, folder: Path) -> None:
    soundfile.write(folder / "single.wav", np.stack([clicks()[:RATE]] * 8, axis=1), RATE)
    write_report(folder / "single.html", folder / "single.wav")
    with Visit(browser, folder / "single.html") as visit:
        assert not visit.page.get_by_text("Match loudness").is_visible()
        assert "8 channels are mixed down to one" in visit.page.locator(".notes").inner_text()
        visit.page.keyboard.press("Space")
        visit.wait("now() > 0.2")
        assert visit.messages == []


@pytest.mark.parametrize("num_samples", [1, 100])
def test_the_shortest_recordings_play(browser: Any, folder: Path, num_samples: int) -> None:
    paths = [folder / f"{side}-{num_samples}.wav" for side in ("short", "done")]
    for path in paths:
        soundfile.write(path, np.full(num_samples, 0.5), 8000)
    page = folder / f"short-{num_samples}.html"
    write_report(page, *paths)
    with Visit(browser, page) as visit:
        visit.page.keyboard.press("Space")
        visit.wait("playing === false")
        assert visit.page.locator("[role=status]").inner_text() == ""
        assert visit.messages == []


def test_parts_are_joined_without_a_gap(browser: Any, folder: Path) -> None:
    """Playing crosses the border of two parts, which are 30 s long."""
    samples = np.tile(clicks()[: 2 * RATE : 3], 16)  # 32 s at 16 kHz
    soundfile.write(folder / "long.wav", samples, RATE // 3)
    write_report(folder / "long.html", folder / "long.wav")
    with Visit(browser, folder / "long.html") as visit:
        assert len(visit.player("tracks[0].parts")) == 2
        visit.player("seek(29.2)")
        samples = rendered(visit, 1.4, parts=2)
    gaps = np.diff(click_places(samples)) / RATE / CLICK
    # One click is missing at 30 s, at the seam of the tiled signal.
    assert sorted(np.rint(gaps))[-2:] == [1, 2] and np.abs(gaps - np.rint(gaps)).max() < 0.01
