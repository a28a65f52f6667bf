"""Every recipe parses, builds a network and takes a training step; its README has its commands."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import shlex

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pydantic")

from audioae.pretrained import CodecInfo
from audioae.training import Trainer
from audioae.training.recipe import DEFAULT_RECIPE, Recipe, find_recipe, list_recipes, read_recipe

torch.set_num_threads(1)

FAMILIES = ("conv1d", "conv2d-plain", "conv2d-skip", "conv2d-causal", "dense")
CORPORA = ("voicebank-demand-16k", "voicebank-demand-48k", "librispeech-esc50-16k", "dns-16k")
# The dense baseline grows with the square of the sample rate and does not benefit from a thousand
# hours of data.
LEFT_OUT = {"dense-voicebank-demand-48k", "dense-dns-16k"}


@pytest.fixture(params=list_recipes())
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return read_recipe(find_recipe(request.param))


def test_every_family_has_a_recipe_for_every_corpus() -> None:
    wanted = {f"{family}-{corpus}" for family in FAMILIES for corpus in CORPORA} - LEFT_OUT
    assert wanted <= set(list_recipes()) and DEFAULT_RECIPE in list_recipes()


def test_a_recipe_trains(recipe: Recipe) -> None:
    trainer = Trainer(
        recipe.build(), dataclasses.replace(recipe.training, warmup_steps=0, precision="fp32")
    )
    before = [weight.clone() for weight in trainer.model.parameters()]
    noise = torch.randn(2, recipe.sample_rate // 4, generator=torch.Generator().manual_seed(0))
    clean = 0.1 * torch.sin(torch.linspace(0, 500, noise.shape[-1])).expand(2, -1)
    for _ in range(2):  # layers before one that starts at zero have no gradient in the first step
        assert math.isfinite(trainer.train_step(clean + 0.05 * noise, clean))
    assert trainer.skipped == 0
    after = list(trainer.model.parameters())
    changed = [not torch.equal(new, old) for new, old in zip(after, before, strict=True)]
    trained = [weight.requires_grad for weight in after]
    # A bias before a BatchNorm has no gradient.
    moved = [weight.grad is not None and bool(weight.grad.any()) for weight in after]
    assert all(new for new, has_gradient in zip(changed, moved, strict=True) if has_gradient)
    matrices = [new for new, weight in zip(changed, after, strict=True) if weight.ndim > 1]
    assert sum(matrices) > 0.9 * sum(weight.requires_grad for weight in after if weight.ndim > 1)
    assert not any(new and not may for new, may in zip(changed, trained, strict=True))


def test_names_tell_sample_rate_and_causality(recipe: Recipe) -> None:
    info = recipe.build().info
    assert recipe.sample_rate == (48000 if "48k" in recipe.name else 16000)
    if isinstance(info, CodecInfo):
        assert info.features == recipe.features and recipe.training.best == "loss"
        return
    assert info.stft == recipe.stft
    assert ("causal" in recipe.name) <= info.causal
    assert recipe.training.best != "pesq" or recipe.sample_rate == 16000
    assert recipe.training.share(1) and recipe.training.share(2)


def commands(name: str) -> dict[str, list[str]]:
    """The audioae commands in a recipe's README: arguments by name of the command."""
    text = (find_recipe(name).parent / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^audioae (.*)$", text.replace("\\\n", ""), re.MULTILINE)
    split = [shlex.split(line) for line in lines]
    return {words[0]: words[1:] for words in reversed(split)}  # the first of each name


def option(arguments: list[str], name: str, default: str = "") -> str:
    """The value of an option on a command line."""
    return arguments[arguments.index(name) + 1] if name in arguments else default


@pytest.mark.parametrize("name", list_recipes())
def test_a_readme_belongs_to_its_recipe(name: str) -> None:
    text = (find_recipe(name).parent / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")


@pytest.mark.parametrize(
    "name", [name for name in list_recipes() if any(corpus in name for corpus in CORPORA)]
)
def test_a_readme_prepares_what_it_trains_on(name: str) -> None:
    from audioae.data.corpora.catalog import CORPORA as KNOWN

    assert read_recipe(find_recipe(name)).name == name
    called = commands(name)
    prepare, train, denoise = called["prepare"], called["train"], called["denoise"]
    corpora = list(itertools.takewhile(lambda word: not word.startswith("--"), prepare))
    assert corpora and set(corpora) <= set(KNOWN)
    rate = int(option(prepare, "--sample-rate", "16000"))
    assert rate == read_recipe(find_recipe(name)).stft.sample_rate
    assert train[0] == name
    assert option(prepare, "--out") == option(train, "--data") != ""
    assert option(train, "--out") == option(denoise, "--model") != ""
