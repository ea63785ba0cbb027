"""Names and docstrings: no vague names, no docstring that needs its function's name, one meaning of a class name."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = {"found", "asked", "said", "told", "kept", "held", "judged", "shown", "promised", "gathered", "fitted"}
OPENING = re.compile(r"(Of|As|By which|To which|Where|Whether|Which|What|All of|Some of|And|Or|But)\b")


@cache
def nodes() -> dict[str, list[ast.AST]]:
    """Return the syntax nodes of the package, the benchmarks and the top-level scripts by path."""
    paths = [*ROOT.glob("dico_tf/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("*.py")]
    return {
        str(path.relative_to(ROOT)): list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for path in sorted(paths)
        if not path.stem.endswith("_pb2")
    }


def stored_name(node: ast.AST) -> str | None:
    """Return the name under which a node stores a variable, an argument, an exception or an attribute of self."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
            return name
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return name
    return None


def test_no_variable_has_a_vague_name():
    offenders = [
        f"{path}:{node.lineno} {stored_name(node)}"
        for path, tree in nodes().items()
        for node in tree
        if stored_name(node) in NAMES
    ]
    assert not offenders, "name the value (members, config, scores, report):\n" + "\n".join(offenders)


def test_a_docstring_makes_sense_without_the_name_it_belongs_to():
    offenders = []
    for path, tree in nodes().items():
        for node in tree:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                if OPENING.match(text):
                    offenders.append(f"{path}:{node.body[0].lineno} {text.splitlines()[0]}")
    assert not offenders, "begin with a verb or a plain noun:\n" + "\n".join(offenders)


def test_a_class_name_has_one_meaning_in_the_package():
    places = defaultdict(set)
    for path, tree in nodes().items():
        for node in tree:
            if path.startswith("dico_tf/") and isinstance(node, ast.ClassDef) and node.name != "Spec":
                places[node.name].add((path, node.lineno))
    offenders = [
        f"{name}: {', '.join(f'{path}:{line}' for path, line in sorted(where))}"
        for name, where in sorted(places.items())
        if len({path for path, _ in where}) > 1
    ]
    assert not offenders, "give each thing its own class name:\n" + "\n".join(offenders)
