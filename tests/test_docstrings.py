"""The examples in the docstrings print what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

import audioae
from audioae.errors import DependencyError

PACKAGE = Path(audioae.__file__).parent
MODULES = [
    ".".join(["audioae", *path.relative_to(PACKAGE).with_suffix("").parts])
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_show(name, tmp_path, monkeypatch):
    """The examples of a docstring run in an empty folder and may write files into it."""
    try:
        module = importlib.import_module(name.removesuffix(".__init__"))
        for test in doctest.DocTestFinder().find(module):
            folder = tmp_path / test.name
            folder.mkdir()
            monkeypatch.chdir(folder)
            doctest.DebugRunner(optionflags=OPTIONS).run(test)
    except (ImportError, DependencyError) as error:
        pytest.skip(f"{name} needs a package that is not installed: {error}")
    except doctest.DocTestFailure as failure:
        example = failure.example
        pytest.fail(
            f"{failure.test.name}: {example.source.strip()}\n"
            f"expected: {example.want.strip()}\nprinted:  {failure.got.strip()}"
        )
    except doctest.UnexpectedException as unexpected:
        error = unexpected.exc_info[1]
        if isinstance(error, (ImportError, DependencyError)):
            pytest.skip(f"{unexpected.test.name} needs a package that is not installed: {error}")
        raise error from None
