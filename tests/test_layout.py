"""The layout of the package is that of docs/architecture.md: dependency order, no import cycles,
sizes of packages, modules and lines.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import audioae

PACKAGE = Path(audioae.__file__).parent
CHECKOUT = Path(__file__).parents[1]
PAGE = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## 3.")[2].partition("\n## 4.")[0]
ORDER = re.findall(r"^\| `(\w+)` \|", SECTION, re.MULTILINE)

MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    file
    for folder in (PACKAGE, *(CHECKOUT / name for name in ("docs", "samples", "tests")))
    for file in folder.rglob("*.py")
)
HEAVY = {"av", "librosa", "matplotlib", "onnx", "pydantic", "ray", "scipy", "torch", "torchaudio"}
TORCH_PACKAGES = ("models", "training", "data/augment", "data/mixtures")
NOT_COUNTED = {"__main__.py", "__pycache__", "py.typed", "recipes"}
MOST_ENTRIES, MOST_MODULES, MOST_LINES, MOST_COLUMNS = 16, 216, 400, 100


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def by_dotted_name() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package is its `__init__.py`."""
    names = {}
    for module in MODULES:
        parts = ("audioae", *module.relative_to(PACKAGE).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = module
    return names


DOTTED = by_dotted_name()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node`, without the bodies of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield child
            yield from statements(child)


def imported(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """The dotted names that import statements among `nodes` import; `from a import b` is `a.b`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files_imported_by(module: Path) -> set[Path]:
    """The files of the package that `module` imports, in functions too."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    found = set()
    for name in imported(statements(tree)):
        # The name of something inside a module stands for that module.
        file = DOTTED.get(name) or DOTTED.get(name.rpartition(".")[0])
        if file:
            found.add(file)
    return found - {module}


@functools.cache
def imports() -> dict[Path, set[Path]]:
    """The files that each module imports."""
    return {module: files_imported_by(module) for module in MODULES}


def find_cycle(path: tuple[Path, ...], finished: set[Path]) -> tuple[Path, ...]:
    """A cycle of imports that can be reached from the end of `path`, or nothing."""
    for file in sorted(imports()[path[-1]] - finished):
        if file in path:
            return (*path[path.index(file) :], file)
        if cycle := find_cycle((*path, file), finished):
            return cycle
    finished.add(path[-1])
    return ()


def package_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_between_files_have_no_cycle() -> None:
    finished: set[Path] = set()
    cycles = [find_cycle((module,), finished) for module in MODULES if module not in finished]
    assert [list(map(name_of, cycle)) for cycle in cycles if cycle] == []


def test_every_package_is_in_the_table_and_every_row_exists() -> None:
    assert sorted(ORDER) == sorted(
        {package_of(module) for module in MODULES} - {"__init__"} - {"__main__"}
    )


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_package_imports_only_packages_above_it(module: Path) -> None:
    own = package_of(module)
    if own == "__main__":
        return
    used = {package_of(file) for file in imports()[module]} - {own, "__init__"}
    assert used <= set([] if own == "__init__" else ORDER[: ORDER.index(own)])


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_heavy_packages_are_imported_at_the_top_only_where_training_needs_them(
    module: Path,
) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    used = {name.partition(".")[0] for name in imported(tree.body)}
    trains = name_of(module).startswith(tuple(f"{package}/" for package in TORCH_PACKAGES))
    assert used & HEAVY <= ({"torch", "scipy"} if trains else set())


@pytest.mark.parametrize(
    "package",
    [module.parent for module in MODULES if module.name == "__init__.py"][1:],
    ids=name_of,
)
def test_the_docstring_of_a_package_lists_its_modules(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    assert (modules | packages) - set(re.findall(r"\w+", docstring or "")) == set()


def test_no_public_name_is_the_name_of_a_module() -> None:
    """Importing `audioae.x` sets the attribute `x` of `audioae` to the module."""
    assert set(audioae.__all__) & {package_of(module) for module in MODULES} == set()


def test_the_package_is_small() -> None:
    entries = {entry.name for entry in PACKAGE.iterdir()} - NOT_COUNTED
    assert len(entries) <= MOST_ENTRIES
    assert len(MODULES) <= MOST_MODULES


def test_modules_are_short() -> None:
    lines = {name_of(file): file.read_text(encoding="utf-8").count("\n") for file in MODULES}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_lines_are_short() -> None:
    long = [
        f"{file.relative_to(PACKAGE if PACKAGE in file.parents else CHECKOUT)}:{number}"
        for file in SOURCES
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > MOST_COLUMNS
    ]
    assert long == []
