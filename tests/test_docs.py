"""What the pages say is what the code does: generated pages are fresh, commands parse, and every
knob is explained.
"""

from __future__ import annotations

import dataclasses
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from audioae.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TRAINING = DOCS / "training.md"
RENDER = f"import runpy; print(runpy.run_path({str(DOCS / 'make_cli.py')!r})['render'](), end='')"


@pytest.mark.parametrize("name", ["cli", "models"])
def test_generated_pages_are_fresh(name: str) -> None:
    fresh = runpy.run_path(str(DOCS / f"make_{name}.py"))["render"]()
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == fresh, (
        f"docs/{name}.md is stale: run python docs/make_{name}.py"
    )


def test_the_page_names_every_command_and_escapes_its_tables() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert next(line for line in page.splitlines() if line.startswith("## audioae")) == "## audioae"
    assert all(f"\n## audioae {name}\n" in page for name in COMMANDS)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)


@pytest.mark.parametrize("columns", ["30", "300"])
def test_the_page_is_the_same_on_every_terminal(columns: str) -> None:
    env = {
        **os.environ,
        "COLUMNS": columns,
        "AUDIOAE_DENOISE_STRENGTH": "0.3",
        "PYTHONPATH": str(DOCS.parent),
    }
    rendered = subprocess.run(
        [sys.executable, "-c", RENDER],
        capture_output=True,
        env=env,
        check=True,
        timeout=60,
        encoding="utf-8",
    )
    assert rendered.stdout == runpy.run_path(str(DOCS / "make_cli.py"))["render"]()


# --- commands in the pages
# --------------------------------------------------------------------------------------------------------------


def commands_of(page: Path) -> Iterator[list[str]]:
    """The arguments of every `audioae ...` in the shell blocks of a page, and in its `code` that
    names an option.
    """
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(
        r"`(audioae [^`\n]+ -[^`\n]+)`",
        re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL),
    )
    for line in [line for block in blocks for line in block.splitlines()] + inline:
        for words in split_commands(line):
            if "audioae" in words:
                yield words[words.index("audioae") + 1 :]


def split_commands(line: str) -> Iterator[list[str]]:
    """A line of shell as the words of each command in it, without what is redirected."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    command: list[str] = []
    for word in words:
        if word and set(word) <= set("&|;"):
            yield command
            command = []
        elif word in (">", "2>", ">>", "<"):
            next(words, None)
        else:
            command.append(word)
    yield command


PAGES = [ROOT / "README.md", TRAINING, *sorted(ROOT.glob("recipes/*/README.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_parses(page: Path) -> None:
    found = list(commands_of(page))
    assert found
    for arguments in found:
        try:
            parse(main, arguments)
        except click.exceptions.Exit:
            assert {"--help", "--version"} & set(arguments)
        except click.UsageError as error:
            pytest.fail(f"audioae {' '.join(arguments)}: {error.format_message()}")


def parse(
    command: click.Command, arguments: list[str], parent: click.Context | None = None
) -> None:
    """Parse arguments as the shell would, down to the values of options, and run nothing."""
    with command.make_context("audioae", list(arguments), parent=parent) as context:
        if isinstance(command, click.Group) and (context.args or context._protected_args):
            _, inner, rest = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            assert inner
            parse(inner, rest, context)


def test_a_command_line_that_does_not_parse_is_found() -> None:
    for wrong in (
        ["denoise", "a.wav", "--strenth", "1"],
        ["train", "--out", "r", "--device", "tpu"],
        ["mxi"],
        ["models", "lst"],
    ):
        with pytest.raises(click.UsageError):
            parse(main, wrong)


# --- knobs in the page of training
# ------------------------------------------------------------------------------------------------------


def table_knobs(text: str) -> set[str]:
    """The names in the first column of the tables of knobs."""
    return {
        name
        for row in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text, re.MULTILINE)
        for name in re.findall(r"\w+", row)
    }


def test_every_knob_is_explained_and_no_other() -> None:
    pytest.importorskip("torch")
    from audioae.data.augment import AugmentSettings
    from audioae.data.mixtures import DataSettings
    from audioae.models import FAMILIES
    from audioae.training import TrainSettings
    from audioae.training.validation import ValidationSettings

    text = TRAINING.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL))
    for heading, settings in (
        ("`[training]`", TrainSettings),
        ("`[data]`", DataSettings),
        ("`data.augment`", AugmentSettings),
    ):
        assert table_knobs(sections[heading]) == {
            field.name for field in dataclasses.fields(settings)
        }
    assert all(
        f"`{field.name}`" in sections["`[training]`"]
        for field in dataclasses.fields(ValidationSettings)
    )
    of_networks = {
        field.name for settings, _ in FAMILIES.values() for field in dataclasses.fields(settings)
    }
    assert table_knobs(sections["`[network]`"]) <= of_networks


def test_the_recipe_of_the_page_is_one(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from audioae.training.recipe import read_recipe

    (tmp_path / "recipe.toml").write_text(
        re.findall(r"^```toml\n(.*?)^```", TRAINING.read_text(encoding="utf-8"), re.M | re.S)[0]
    )
    overrides = re.findall(
        r"--set (\S+=\S+?)[\s`]", TRAINING.read_text(encoding="utf-8").replace("=N`", "=9`")
    )
    assert len(overrides) > 3
    assert read_recipe(tmp_path / "recipe.toml", overrides).build()
