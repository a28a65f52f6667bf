"""The floors as docs/architecture.md draws them: a room imports only from rooms before it in the
table, so there are no circles.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import audioae

PACKAGE = Path(audioae.__file__).parent
PLAN = Path(__file__).parents[1] / "docs" / "architecture.md"
ROOMS = re.findall(
    r"^\|[^|]*\| \*?`(\w+)`\*? \|", PLAN.read_text(encoding="utf-8"), re.MULTILINE
)  # from the cellar to the roof
TORCH_ROOMS = {
    "features",
    "augment",
    "losses",
    "models",
    "dataset",
    "checkpoint",
    "validation",
    "training",
    "export",
    "tasks",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(nodes: list[ast.AST]) -> set[str]:
    """Dotted names that import statements among `nodes` bring in; `from a import b` counts as
    `a.b`.
    """
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_before_it(module: Path) -> None:
    tree, room = ast.parse(module.read_text(encoding="utf-8")), room_of(module)
    used = {
        name.split(".")[1] for name in imports(list(ast.walk(tree))) if name.startswith("audioae.")
    } - {"__version__", room}
    assert used <= set(ROOMS[: ROOMS.index(room)])


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_torch_is_imported_on_top_of_a_module_only_where_training_needs_it(module: Path) -> None:
    named = {
        name.split(".")[0]
        for name in imports(list(ast.parse(module.read_text(encoding="utf-8")).body))
    }
    allowed = {"torch", "scipy"} if room_of(module) in TORCH_ROOMS else set()
    assert (
        named
        & {"torch", "torchaudio", "librosa", "scipy", "matplotlib", "ray", "av", "pydantic", "onnx"}
        <= allowed
    )
