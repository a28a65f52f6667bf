"""Every recipe of the project parses, builds, and takes a step on stand-in data of its rate; its
README runs what it says.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pydantic")

from audioae.training import Trainer
from audioae.training.recipe import DEFAULT_RECIPE, Recipe, find_recipe, list_recipes, read_recipe

torch.set_num_threads(1)

FAMILIES = ("conv1d", "conv2d-plain", "conv2d-skip", "conv2d-causal", "dense")
CORPORA = ("voicebank-demand-16k", "voicebank-demand-48k", "librispeech-esc50-16k", "dns-16k")
# A baseline of linear layers grows with the square of the rate and does not gain from a thousand
# hours.
LEFT_OUT = {"dense-voicebank-demand-48k", "dense-dns-16k"}


@pytest.fixture(params=list_recipes())
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return read_recipe(find_recipe(request.param))


def test_every_family_has_a_recipe_for_every_corpus() -> None:
    wanted = {f"{family}-{corpus}" for family in FAMILIES for corpus in CORPORA} - LEFT_OUT
    assert wanted <= set(list_recipes()) and DEFAULT_RECIPE in list_recipes()


def test_a_recipe_takes_a_step(recipe: Recipe) -> None:
    trainer = Trainer(
        recipe.build(), dataclasses.replace(recipe.training, warmup_steps=0, precision="fp32")
    )
    before = [weight.clone() for weight in trainer.denoiser.parameters()]
    noise = torch.randn(2, recipe.stft.sample_rate // 4, generator=torch.Generator().manual_seed(0))
    clean = 0.1 * torch.sin(torch.linspace(0, 500, noise.shape[-1])).expand(2, -1)
    assert math.isfinite(trainer.train_step(clean + 0.05 * noise, clean)) and trainer.skipped == 0
    changed = [
        not torch.equal(weight, old)
        for weight, old in zip(trainer.denoiser.parameters(), before, strict=True)
    ]
    assert sum(changed) > 0.9 * len(changed)  # all but what has no gradient in the first step


def test_what_a_name_promises_is_so(recipe: Recipe) -> None:
    info = recipe.build().info
    assert info.stft.sample_rate == (48000 if "48k" in recipe.name else 16000)
    assert ("causal" in recipe.name) <= info.causal
    assert recipe.training.best != "pesq" or info.stft.sample_rate == 16000
    assert recipe.training.share(1) and recipe.training.share(2)


@pytest.mark.parametrize(
    "name", [name for name in list_recipes() if any(corpus in name for corpus in CORPORA)]
)
def test_a_readme_is_of_its_recipe(name: str) -> None:
    from audioae.data.corpora.catalog import CORPORA as KNOWN

    folder = find_recipe(name).parent
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n") and read_recipe(find_recipe(name)).name == name
    prepare, train = re.findall(r"^audioae (prepare|train) (.*)$", text, re.MULTILINE)
    corpora = prepare[1].partition(" --")[0].split()
    assert corpora and set(corpora) <= set(KNOWN)
    rate = re.search(r"--sample-rate (\d+)", prepare[1])
    assert int(rate[1] if rate else 16000) == read_recipe(find_recipe(name)).stft.sample_rate
    assert (
        train[1].split()[0] == name
        and Path(prepare[1].split("--out ")[1]).name
        == Path(re.search(r"--data (\S+)", train[1])[1]).name
    )  # type: ignore[index]
