"""The page of the command line is what the parser says, on any terminal."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from audioae.cli import COMMANDS

DOCS = Path(__file__).parents[1] / "docs"
RENDER = f"import runpy; print(runpy.run_path({str(DOCS / 'make_cli.py')!r})['render'](), end='')"


def test_the_page_of_the_command_line_is_fresh() -> None:
    fresh = runpy.run_path(str(DOCS / "make_cli.py"))["render"]()
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == fresh, "docs/cli.md is stale: run python docs/make_cli.py"


def test_the_page_names_every_command_and_escapes_its_tables() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert next(line for line in page.splitlines() if line.startswith("## audioae")) == "## audioae"
    assert all(f"\n## audioae {name}\n" in page for name in COMMANDS)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)


@pytest.mark.parametrize("columns", ["30", "300"])
def test_the_page_is_the_same_on_every_terminal(columns: str) -> None:
    env = {**os.environ, "COLUMNS": columns, "AUDIOAE_DENOISE_STRENGTH": "0.3", "PYTHONPATH": str(DOCS.parent)}
    rendered = subprocess.run([sys.executable, "-c", RENDER], capture_output=True, env=env, check=True, timeout=60, encoding="utf-8")
    assert rendered.stdout == runpy.run_path(str(DOCS / "make_cli.py"))["render"]()
