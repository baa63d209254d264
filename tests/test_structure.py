"""The arrows between modules go one way: the core stands on two floors below, and needs none of the wings."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "xsae"
MODULES = {path.relative_to(PACKAGE.parent).with_suffix(""): path for path in sorted(PACKAGE.rglob("*.py"))}
# What a part may import beside itself. The core lies in xsae/ itself.
ALLOWED = {
    "disk": set(),
    "compute": set(),
    "core": {"disk", "compute"},
    "data": {"disk"},
    "alignments": {"core"},
    "evaluation": {"core", "alignments"},
    "report": {"core", "evaluation", "data"},
    "run": {"disk", "compute", "core", "data", "alignments", "evaluation", "report"},
}


def name(module):
    return ".".join(part for part in module.parts if part != "__init__")


def part(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 2 or parts[-1] in ALLOWED else "core"


def imports(path):
    """The modules of ours that a module imports when it runs, wherever the import stands."""
    found, known = set(), {name(module) for module in MODULES}
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            each = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {target if target in known else node.module for target in each}
    return {target for target in found if target in known and target != "xsae"}


IMPORTS = {name(module): imports(path) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_a_module_imports_what_its_part_may(module):
    its_part = part(module)
    assert {other for other in IMPORTS[module] if part(other) not in {its_part, *ALLOWED[its_part]}} == set()


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError, which names the circle


def test_every_module_and_public_function_says_what_it_is():
    silent = []
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text())
        nodes = [tree, *(n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_")]
        silent += [f"{name(module)}: {getattr(n, 'name', '')}" for n in nodes if not ast.get_docstring(n)]
    assert [function for function in silent if not function.endswith(": main")] == []


def test_no_function_is_longer_than_a_screen():
    long = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False)
                lines = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
                if lines > 60:
                    long[f"{name(module)}.{node.name}"] = lines
    assert not long


def test_no_module_is_too_long_to_be_read_at_once():
    lines = {name(module): len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: n for module, n in lines.items() if n > 300} == {}
