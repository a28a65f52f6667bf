"""`docs/make_site.py`: the audio examples on the page of the models, without building the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import make_site

from audioae.pretrained import list_denoisers


def test_every_denoiser_has_a_player_for_every_example(tmp_path: Path) -> None:
    names = [entry.name for entry in list_denoisers()][:2]
    make_site.prepare(tmp_path, ((name, lambda waveform, rate: waveform / 2) for name in names))
    page = (tmp_path / "docs" / make_site.PAGE).read_text(encoding="utf-8")
    players = re.findall(r'<audio controls preload="none" src="([^"]+)" aria-label="([^"]+)"', page)
    assert len(players) == len(make_site.EXAMPLES) * (len(names) + 1)
    assert len({label for _, label in players}) == len(players)
    for source, label in players:
        found = soundfile.info(tmp_path / "docs" / source)
        (before,) = [each for each in make_site.EXAMPLES if label.endswith(each.title)]
        sample = soundfile.info(ROOT / "samples" / before.file)
        assert (found.samplerate, found.channels) == (sample.samplerate, sample.channels)
        assert found.duration == pytest.approx(sample.duration, abs=0.1)
        model = re.search(r"^After (\S+):", label)
        assert model is None or f"\n## {model[1]}\n" in page
    assert (tmp_path / "docs" / "metrics.md").is_file()
    assert not (tmp_path / "docs" / "make_site.py").exists()


def test_a_page_without_the_place_of_the_players_is_refused() -> None:
    with pytest.raises(ValueError, match="heading"):
        make_site.with_players("# The models\n", ["a"])
