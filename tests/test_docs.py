"""The documentation agrees with the code: generated pages are current, commands and Python blocks
run, the site builds, links lead somewhere, every setting is documented.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import audioae
from audioae.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TRAINING = DOCS / "training.md"
RENDER = f"import runpy; print(runpy.run_path({str(DOCS / 'make_cli.py')!r})['render'](), end='')"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("recipes/*/README.md"),
    ]
)


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# --- Generated pages


@pytest.mark.parametrize("name", ["cli", "models"])
def test_generated_pages_are_current(name: str) -> None:
    fresh = runpy.run_path(str(DOCS / f"make_{name}.py"))["render"]()
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == fresh, (
        f"docs/{name}.md is out of date: run python docs/make_{name}.py"
    )


def test_cli_page_has_every_command_and_even_tables() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert next(line for line in page.splitlines() if line.startswith("## audioae")) == "## audioae"
    assert all(f"\n## audioae {name}\n" in page for name in COMMANDS)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)


@pytest.mark.parametrize("columns", ["30", "300"])
def test_cli_page_does_not_depend_on_the_terminal(columns: str) -> None:
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


def test_models_page_has_every_model_and_a_note_on_licences() -> None:
    from audioae.pretrained import list_models

    page = (DOCS / "models.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert {entry.name for entry in list_models()} <= set(headings)
    note = page.partition("## Licences of the training data")[2].partition("\n## ")[0]
    for word in ("CC BY-SA", "ODbL", "moodist", "`--licence`", "models info NAME --json"):
        assert word in note


# --- Links


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = without_fences(page.read_text(encoding="utf-8"))
    inline = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in inline + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page_id(page)} links to {target}, which does not exist"
        if heading:
            assert heading in anchors(file), f"{page_id(page)}: {target} has no such heading"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = without_fences(page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


# --- Command lines


def commands_of(page: Path) -> Iterator[list[str]]:
    """Arguments of every `audioae ...` in the shell blocks of a page, and in inline code that has
    an option.
    """
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    paragraphs = re.sub(r"(?<!\n)\n(?!\n)", " ", without_fences(text))
    inline = re.findall(r"`(audioae [^`\n]+ -[^`\n]+)`", paragraphs)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in lines + inline:
        for words in split_commands(line):
            if "audioae" in words[:-1]:
                yield words[words.index("audioae") + 1 :]


def split_commands(line: str) -> Iterator[list[str]]:
    """Split a line of shell into the words of each command, without redirections."""
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


WITH_COMMANDS = [
    page
    for page in PAGES
    if page.name not in ("architecture.md", "cli.md")
    and "audioae " in page.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=page_id)
def test_every_command_line_parses(page: Path) -> None:
    for arguments in commands_of(page):
        try:
            parse(main, arguments)
        except click.exceptions.Exit:
            assert {"--help", "--version"} & set(arguments)
        except click.UsageError as error:
            pytest.fail(f"audioae {' '.join(arguments)}: {error.format_message()}")


COOKBOOK = sorted(set(DOCS.glob("cookbook/*.md")) - {DOCS / "cookbook/index.md"})


@pytest.mark.parametrize(
    "page",
    [
        ROOT / "README.md",
        DOCS / "index.md",
        TRAINING,
        DOCS / "usage.md",
        *COOKBOOK,
        *sorted(ROOT.glob("recipes/*/README.md")),
    ],
    ids=page_id,
)
def test_a_page_shows_commands(page: Path) -> None:
    assert list(commands_of(page))


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


@pytest.mark.parametrize(
    "wrong",
    [
        ["denoise", "a.wav", "--strenth", "1"],
        ["train", "--out", "r", "--device", "tpu"],
        ["mxi"],
        ["models", "lst"],
    ],
)
def test_a_command_line_that_does_not_parse_is_found(wrong: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse(main, wrong)


# --- Blocks that run
#
# A page names its inputs and the blocks that are not run in comments, which the site does not show:
# <!-- input: episode.wav from samples/noisy-44k-stereo.flac -->
# <!-- parsed only: why the next block is not run -->

FENCE = re.compile(
    r"(?:^<!-- parsed only: (?P<reason>[^\n]+?) -->\n)?"
    r"^```(?P<language>bash|python)[^\n]*\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
RUN_COMMANDS = [DOCS / "index.md", DOCS / "autoencoders.md", *COOKBOOK]


def blocks_to_run(page: Path) -> list[tuple[str, str]]:
    """Language and code of the blocks of a page that are run: Python everywhere, commands in the
    quick start, the tour of autoencoders and the cookbook, without those that are only parsed and
    without included files.
    """
    languages = ("bash", "python") if page in RUN_COMMANDS else ("python",)
    return [
        (block["language"], block["code"])
        for block in FENCE.finditer(page.read_text(encoding="utf-8"))
        if block["language"] in languages and not block["reason"] and "--8<--" not in block["code"]
    ]


def make_inputs(page: Path, folder: Path) -> None:
    """Put the files that a page works on into a folder."""
    (folder / "samples").symlink_to(ROOT / "samples")
    comments = re.findall(
        r"^<!-- input: (\S+) from (\S+) -->$", page.read_text("utf-8"), re.MULTILINE
    )
    for name, source in [("noisy.wav", "samples/noisy.wav"), *comments]:
        path, original = folder / name, ROOT / source
        path.parent.mkdir(parents=True, exist_ok=True)
        if original.is_dir():
            shutil.copytree(original, path)
        elif path.suffix == original.suffix:
            shutil.copy(original, path)
        elif path.suffix == ".mp4":
            make_film(path, *audioae.read(original))
        else:
            audioae.write(path, *audioae.read(original))


def make_film(path: Path, waveform: Any, sample_rate: int) -> None:
    """Write a film with a grey picture and the mean of all channels as its sound."""
    import av

    with av.open(str(path), "w") as film:
        video = film.add_stream("mpeg4", rate=5, width=64, height=48, pix_fmt="yuv420p")
        audio = film.add_stream("aac", rate=sample_rate, layout="mono")
        for _ in range(5 * waveform.shape[1] // sample_rate):
            picture = np.full((48, 64, 3), 128, np.uint8)
            film.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        mono = np.ascontiguousarray(waveform.mean(axis=0, keepdims=True), np.float32)
        frame = av.AudioFrame.from_ndarray(mono, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sample_rate, 0
        film.mux(audio.encode(frame))
        for stream in (video, audio):
            film.mux(stream.encode(None))


# Trainings of pages take a tenth of their steps here, and machines are recorded for a minute.
SHORTER = [
    (re.compile(r"^((?:report_|warmup_)?steps) = \d+$", re.MULTILINE), r"\1 = 10"),
    (re.compile(r"(anomaly fit .* --steps) \d+"), r"\1 10"),
    (re.compile(r"(anomaly simulate .* --minutes) \d+"), r"\1 1"),
]


def run_command(command: str, programs: Path) -> None:
    """Run a block of shell in the current folder, with the `audioae` of the folder `programs` and
    shorter trainings. `denoise` has the quality "fast" where the block does not name one, which
    takes a third of the time.
    """
    for pattern, replacement in SHORTER:
        command = pattern.sub(replacement, command)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env={**os.environ, "PATH": path, "AUDIOAE_DENOISE_QUALITY": "fast"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=280,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


RUN_PAGES = [page for page in PAGES if blocks_to_run(page)]
NEEDS = {
    "lecture-video": ("av",),
    "own-noise": ("torch", "librosa", "pystoi"),
    "autoencoders": ("torch", "librosa", "matplotlib", "sklearn", "constriction"),
}


@pytest.mark.parametrize("page", RUN_PAGES, ids=page_id)
def test_blocks_run(
    page: Path, commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the page, in one folder."""
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package)
    make_inputs(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for number, (language, code) in enumerate(blocks_to_run(page)):
        if language == "bash":
            run_command(code, commands)
        else:
            exec(compile(code, f"{page_id(page)}, block {number}", "exec"), names)


def test_pages_run_something_and_every_exception_has_a_reason() -> None:
    python_pages = [DOCS / "index.md", DOCS / "usage.md", DOCS / "api.md", ROOT / "README.md"]
    assert set(RUN_PAGES) >= {*RUN_COMMANDS, *python_pages}
    assert all("bash" in dict(blocks_to_run(page)) for page in RUN_COMMANDS)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        used = sum(bool(block["reason"]) for block in FENCE.finditer(text))
        assert without_fences(text).count("<!-- parsed only:") == used, (
            f"{page_id(page)}: comment without a block"
        )


# --- The site


class Links(HTMLParser):
    """Links, embedded resources and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.anchors = {""}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and "href" in values:
            self.resources.append(values["href"])
        elif "src" in values:
            self.resources.append(values["src"])


def read_links(page: Path) -> Links:
    parser = Links()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """All links of the built pages lead somewhere, and no page fetches anything from a network."""
    pytest.importorskip("zensical")
    for name in ("zensical.toml", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path)
    no_data = shutil.ignore_patterns("weights", "__pycache__", "node_modules")
    for name in ("docs", "examples", "audioae"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=no_data)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(
        command, cwd=tmp_path, capture_output=True, timeout=280, encoding="utf-8"
    )
    assert built.returncode == 0, built.stdout + built.stderr

    site = tmp_path / "site"
    pages = {page: read_links(page) for page in site.rglob("*.html")}
    names = {page.relative_to(site).as_posix() for page in pages}
    sources = {
        page.relative_to(DOCS).with_suffix(".html").as_posix() for page in DOCS.rglob("*.md")
    }
    assert names == sources | {"404.html"}
    faults = []
    for page, found in pages.items():
        where = page.relative_to(site).as_posix()
        fetched = [target for target in found.resources if re.match(r"(\w+:)?//", target)]
        faults += [f"{where} fetches {target}" for target in fetched]
        if where == "404.html":  # its links begin with /
            continue
        for target in found.links + found.resources:
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not file.is_file() or (file in pages and anchor not in pages[file].anchors):
                faults.append(f"{where} links to {target}")
    assert faults == []
    reference = pages[site / "api.html"].anchors
    assert [name for name in audioae.__all__ if f"audioae.{name}" not in reference] == []


def test_the_navigation_has_every_page_once() -> None:
    def leaves(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from leaves(inner)

    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    listed = list(leaves(project["nav"]))
    assert sorted(listed) == sorted(
        page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")
    )


# --- The README


def readme_command(name: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(
        rf"^<!-- command: {name} -->\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    assert block, f"README.md has no command {name}"
    return block[1]


@pytest.mark.parametrize("name", ["denoise", "python", "train", "test"])
def test_readme_has_the_commands_that_ci_runs(name: str) -> None:
    assert readme_command(name).strip()


def test_readme_starts_with_the_commands_and_the_picture() -> None:
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:15]
    assert any(line.startswith("audioae denoise ") for line in first_screen)
    assert any("](docs/spectrogram.png)" in line for line in first_screen)


SCORES = (("pesq_wb", 2), ("stoi", 3), ("si_sdr", 1))  # columns of the README's table, decimals


def test_readme_figures_are_those_of_the_benchmarks() -> None:
    from audioae.pretrained import load_card

    peers = json.loads((DOCS / "peers.json").read_text(encoding="utf-8"))
    scores = {each["name"].removesuffix(", non-stationary"): each for each in peers["systems"]}
    together = {each["name"].strip("*"): each for each in peers["side_by_side"]["systems"]}
    for model in ("speech-16k", "speech-offline-16k", "speech-small-16k"):
        card = next(each for each in load_card(model).scores if peers["pairs"] in each.pairs)
        scores[model], scores["noisy input"] = card.enhanced, card.noisy
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    head = "| | PESQ-WB | STOI | SI-SDR, dB | DNSMOS OVRL | CPU time, s |"
    rows = text.partition(head)[2].strip().partition("\n\n")[0].splitlines()[1:]
    assert len(rows) >= 8
    for row in rows:
        name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        if "`" in name:
            name = name.split("`")[1]
        wanted = [
            *((scores[name][key], digits) for key, digits in SCORES),
            *((together.get(name, {}).get(key), 2) for key in ("dnsmos_ovrl", "cpu_60s")),
        ]
        assert cells == ["" if value is None else f"{value:.{n}f}" for value, n in wanted], name


# --- Settings in the page on training


def table_settings(text: str) -> set[str]:
    """Names in the first column of the tables of settings."""
    return {
        name
        for row in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text, re.MULTILINE)
        for name in re.findall(r"\w+", row)
    }


def test_every_setting_is_documented_and_no_other() -> None:
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
        assert table_settings(sections[heading]) == {
            field.name for field in dataclasses.fields(settings)
        }
    assert all(
        f"`{field.name}`" in sections["`[training]`"]
        for field in dataclasses.fields(ValidationSettings)
    )
    of_networks = {
        field.name for settings, _ in FAMILIES.values() for field in dataclasses.fields(settings)
    }
    assert table_settings(sections["`[network]`"]) <= of_networks


def test_every_loss_is_documented() -> None:
    pytest.importorskip("torch")
    from audioae.training.losses import LOSSES

    text = TRAINING.read_text(encoding="utf-8")
    assert [name for name in LOSSES if f"`{name}`" not in text] == []


def test_the_example_recipe_builds(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from audioae.training.recipe import read_recipe

    text = TRAINING.read_text(encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S)[0])
    overrides = re.findall(r"--set (\S+=\S+?)[\s`]", text.replace("=N`", "=9`"))
    assert len(overrides) > 3
    assert read_recipe(tmp_path / "recipe.toml", overrides).build()
