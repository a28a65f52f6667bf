"""The page of an hour of audio: its size, and how long Chromium takes to open it.

Run with `pytest -s tests/benchmarks/test_report_hour.py`. It writes a report of an hour of the
samples, which takes some minutes; AUDIOAE_REPORT names a page to open instead. Where other work
takes the cores, the clock says nothing, and the processor time of the page is asserted alone.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from machine import cores

from audioae.web import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("AUDIOAE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), "")
SAMPLES = Path(__file__).parents[2] / "samples"
RATE, SECONDS = 48000, 3600.0
MOST_BYTES, MOST_SECONDS = 30e6, 3.0
RUNS = 3
# Milliseconds from the start of the navigation until the player is ready, all tiles of the pictures
# are decoded and one frame has been drawn with them; false before.
DRAWN = """() => {
  const player = window.audioaePlayer;
  if (!player || player.pending) return false;
  const tiles = player.images.flatMap(({tiles}) => tiles);
  return tiles.every(({image}) => image.complete && image.naturalWidth) && performance.now();
}"""
# The share of the canvas of the spectrogram that is not its background.
PAINTED = """() => {
  const canvas = audioaePlayer.canvases.spectrogram;
  const pixels = canvas.getContext("2d").getImageData(50, 0, canvas.width - 50, canvas.height).data;
  let count = 0;
  for (let place = 0; place < pixels.length; place += 4) count += pixels[place] > 4;
  return count / (pixels.length / 4);
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "AUDIOAE_REPORT" in os.environ:
        return Path(os.environ["AUDIOAE_REPORT"]).resolve()
    folder = tmp_path_factory.mktemp("hour")
    for name in ("noisy", "clean"):
        samples, _ = soundfile.read(SAMPLES / f"{name}-44k-stereo.flac", dtype="float32")
        with soundfile.SoundFile(folder / f"{name}.flac", "w", RATE, 1, "PCM_16") as file:
            left = round(SECONDS * RATE)
            while left > 0:  # played faster by 9 %, which does not matter here
                part = samples[:left, 0]
                file.write(part)
                left -= len(part)
    return Path(
        write_report(folder / "report.html", folder / "noisy.flac", folder / "clean.flac").path
    )


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium")
def test_the_page_of_an_hour_is_small_and_opens_in_three_seconds(page: Path) -> None:
    idle = cores() - os.getloadavg()[0]
    opened, processor, memory = [], [], []
    with sync_api.sync_playwright() as playwright:
        for _ in range(RUNS):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            devtools = tab.context.new_cdp_session(tab)
            devtools.send("Performance.enable")
            tab.goto(page.as_uri(), wait_until="commit")
            opened.append(tab.wait_for_function(DRAWN, timeout=120_000).json_value() / 1000)
            found = devtools.send("Performance.getMetrics")["metrics"]
            processor += [each["value"] for each in found if each["name"] == "ProcessTime"]
            assert tab.evaluate("audioaePlayer.seconds") == pytest.approx(SECONDS, abs=1)
            assert tab.evaluate(PAINTED) > 0.2
            memory.append(tab.evaluate("performance.memory.usedJSHeapSize") / 2**20)
            browser.close()
    size = page.stat().st_size
    print(
        f"\n{size / 1e6:.1f} MB, opened in {min(opened):.2f} to {max(opened):.2f} s "
        f"({min(processor):.2f} CPU-s of the page), {max(memory):.0f} MiB of JavaScript, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    assert size < MOST_BYTES
    assert min(processor) < MOST_SECONDS
    if idle > 0.8:
        assert float(np.median(opened)) < MOST_SECONDS
