"""The house keeps its order: who imports whom, what stays light, and what is pinned."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dico_tf.cli import __main__

ROOT = Path(__file__).parents[1]
GROUND = {
    "", "child_process", "config", "errors", "extras", "flags", "invocation", "recipes", "registry", "startup",
}  # fmt: skip
BELOW_GROUND = ("files", "runtime", "formulas")  # rooms that the ground itself may use; they use only FOUNDATION
FOUNDATION = {"", "errors", "registry"}
ROOMS = (
    *BELOW_GROUND, "data", "views", "layers", "divide", "models", "cotrain", "training", "evaluation", "committee",
    "report", "wire", "export", "edge", "compare", "start", "cli",
)  # fmt: skip
PACKAGE = sorted(path for path in (ROOT / "dico_tf").rglob("*.py") if not path.stem.endswith("_pb2"))  # made by protoc
SCRIPTS = sorted(path for path in ROOT.glob("*.py") if path.name != "setup.py")
COMMANDS = sorted((ROOT / "dico_tf/cli").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
HEAVY = {"tensorflow", "keras", "keras_cv", "tensorflow_datasets", "jax", "torch"}
MEASURES = (
    "__init__", "averaging", "cost", "diversity", "interpretation", "metrics", "report", "segmentation_predictions",
    "segmentation", "summary", "table",
)  # fmt: skip
LIGHT = (
    "dico_tf", "config", "divide", "committee", "dense", "files", "formulas", "report", "runtime", "wire",
)  # fmt: skip
NUMPY_ONLY = [
    path
    for path in PACKAGE
    if path.parent.name in LIGHT
    or "edge" in path.relative_to(ROOT).parts
    or path.parts[-2:] in (("models", "evidence.py"), ("models", "published_results.py"))
    or path.parts[-2:] in (("formats", "registry.py"), ("views", "piece.py"), ("views", "policies.py"))
    or path.parent.name == "pieces"
    or path.parent.name == "compare"  # what needs TensorFlow runs in processes of their own
    or (path.parent.name == "evaluation" and path.stem in MEASURES)
    or path.parts[-2:] in (("members", "preprocessing.py"), ("members", "output_decoding.py"))  # used by workers
]
# What `import dico_tf` gives when it is first used; type checkers are told where it is.
PUBLIC = {
    "dico_tf.cotrain.dico.DiCo", "dico_tf.divide.networks.division.divide_model", "dico_tf.edge.client.Client",
}  # fmt: skip
PORTABLE = [
    path
    for path in PACKAGE
    if path.parent.name in ("layers", "models", "networks") or path.parts[-2:] == ("cotrain", "losses.py")
]


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def within(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: not the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from within(child)


@functools.cache
def imports(source: str, *, lazy: bool = True) -> frozenset[str]:
    """Dotted names a module imports; `from a import b` counts as a.b. Without `lazy`, only those made at import."""
    tree = ast.parse(source)
    names: set[str] = set()
    for node in ast.walk(tree) if lazy else within(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return frozenset(names)


class WithoutTypeChecking(ast.NodeTransformer):
    """Removes `if TYPE_CHECKING:`, whose imports are not made when the program runs."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def tops(path: Path, *, lazy: bool = True) -> set[str]:
    return {name.split(".")[0] for name in imports(path.read_text(encoding="utf-8"), lazy=lazy)}


def room(name: str) -> str:
    """dico_tf.models.presets.PRESETS -> models; dico_tf.__version__ -> the ground."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__version__" else ""


def out_of_order(home: str, source: str) -> list[str]:
    """Imports by which the room `home` reaches a later room, or a relative one, which hides where it goes."""
    wrong = []
    for name in sorted(imports(source)):
        if name.startswith("."):
            wrong.append(name)
        elif name.split(".")[0] == "dico_tf":
            there = room(name)
            if home in BELOW_GROUND:
                later = there not in FOUNDATION | set(ROOMS[: ROOMS.index(home) + 1])
            elif home in GROUND:
                later = there in ROOMS and there not in BELOW_GROUND
            else:
                later = there in ROOMS and ROOMS.index(there) > ROOMS.index(home)
            if later or (there == "flags" and home != "cli") or there not in GROUND | set(ROOMS):
                wrong.append(name)
    return wrong


def home(path: Path) -> str:
    parts = path.relative_to(ROOT / "dico_tf").with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def test_every_room_has_its_place_in_the_order():
    assert {home(path) for path in PACKAGE} <= GROUND | set(ROOMS)


def test_a_module_imports_no_later_room():
    later = {label(path): out_of_order(home(path), path.read_text(encoding="utf-8")) for path in PACKAGE}
    assert later.pop("dico_tf/__init__.py") == sorted(PUBLIC)
    assert {path: names for path, names in later.items() if names} == {}


@pytest.mark.parametrize(
    ("home", "source", "wrong"),
    [
        ("data", "from dico_tf.views import counter_rng", ["dico_tf.views.counter_rng"]),
        ("models", "def f():\n    import dico_tf.cotrain.dico", ["dico_tf.cotrain.dico"]),
        ("config", "from dico_tf import registry, models", ["dico_tf.models"]),
        ("config", "from dico_tf.files import atomic", []),
        ("files", "from dico_tf import config, errors, registry", ["dico_tf.config"]),
        (
            "files",
            "from dico_tf.data import epoch_order\nfrom dico_tf.files import atomic",
            ["dico_tf.data.epoch_order"],
        ),
        ("models", "from .presets import PRESETS", [".presets.PRESETS"]),
        ("training", "from dico_tf.flags import parse", ["dico_tf.flags.parse"]),
        ("edge", "from dico_tf.cli import serve", ["dico_tf.cli.serve"]),
        ("cli", "from dico_tf.flags import parse\nfrom dico_tf.edge import options", []),
        ("training", "import dico_tf.elsewhere", ["dico_tf.elsewhere"]),
        ("training", "from dico_tf import __version__, config\nimport dico_tf.cotrain.dico", []),
        ("evaluation", "from dico_tf.evaluation import report\nfrom dico_tf.training import run", []),
    ],
)
def test_the_check_of_the_order_sees_what_it_should(home, source, wrong):
    assert out_of_order(home, source) == wrong


def test_imports_within_functions_are_told_from_those_of_the_module():
    source = "import a\nif x:\n    import b.c\nclass D:\n    from e import f\n    def g(self):\n        import h"
    assert imports(source, lazy=False) == {"a", "b.c", "e.f"}
    assert imports(source) == {"a", "b.c", "e.f", "h"}


def test_the_words_of_flags_are_known_to_one_module():
    everywhere = [*PACKAGE, *SCRIPTS, *BENCHMARKS]
    assert [label(path) for path in everywhere if "absl" in tops(path)] == ["dico_tf/flags.py"]
    names = {name for name in imports((ROOT / "dico_tf/flags.py").read_text()) if name.startswith("dico_tf")}
    assert {room(name) for name in names} == {
        "config", "errors", "extras", "invocation", "recipes", "registry",
    }  # fmt: skip


def test_keras_cv_is_imported_by_exactly_one_module():
    users = [label(path) for path in [*PACKAGE, *SCRIPTS] if "keras_cv" in tops(path)]
    assert len(users) == 1 and users[0].startswith("dico_tf/views/"), users


def test_what_runs_without_a_network_imports_no_framework():
    heavy = {label(path): tops(path, lazy=False) & HEAVY for path in NUMPY_ONLY}
    assert {path: names for path, names in heavy.items() if names} == {}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_module_imports_itself_by_way_of_others():
    modules = {dotted(path): path for path in PACKAGE if path != ROOT / "dico_tf/__init__.py"}
    waiting = {}
    for name, path in modules.items():
        source = ast.parse(path.read_text(encoding="utf-8"))
        used = imports(ast.unparse(WithoutTypeChecking().visit(source)))
        waiting[name] = {
            name for name in (u if u in modules else u.rpartition(".")[0] for u in used) if name in modules
        }
    assert any("dico_tf.registry" in used for used in waiting.values())
    while ready := [name for name, used in waiting.items() if not used & waiting.keys() - {name}]:
        for name in ready:
            del waiting[name]
    assert not waiting, f"these import each other in a circle: {sorted(waiting)}"


def test_what_runs_without_a_network_loads_none_by_way_of_others():
    names = [dotted(path) for path in NUMPY_ONLY]
    assert "dico_tf.flags" in names and "dico_tf.divide.rules" in names and "dico_tf.evaluation.report" in names
    code = f"import sys, {', '.join(names)}; sys.stdout.write(' '.join({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_layers_models_and_losses_are_not_bound_to_tensorflow():
    assert [label(path) for path in PORTABLE if "tensorflow" in tops(path, lazy=False)] == []


def test_the_losses_are_among_what_is_not_bound_to_tensorflow():
    assert "dico_tf/cotrain/losses.py" in map(label, PORTABLE) and "dico_tf/models/wrn.py" in map(label, PORTABLE)


@pytest.mark.parametrize("path", SCRIPTS, ids=label)
def test_a_script_only_runs_its_command(path):
    names = imports(path.read_text(encoding="utf-8"))
    assert names == {f"dico_tf.cli.{path.stem}.main", "dico_tf.flags.run"}


def test_every_command_has_a_script():
    assert {path.stem for path in COMMANDS} == {path.stem for path in SCRIPTS} | {"__init__", "__main__"}
    assert __main__.COMMANDS.keys() == {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("path", COMMANDS, ids=label)
def test_a_command_is_light_until_its_flags_are_read(path):
    names = imports(path.read_text(encoding="utf-8"), lazy=False)
    ours = {name for name in names if name.startswith("dico_tf")}
    light = {name for name in ours if name.startswith("dico_tf.export.formats.registry.")}  # choices of --formats
    assert {room(name) for name in ours - light} <= GROUND
    assert {name.split(".")[0] for name in names} - {"dico_tf"} <= sys.stdlib_module_names


def test_the_package_neither_prints_nor_asserts():
    offenders = []
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                offenders.append(f"{label(path)}:{node.lineno} raise an error that says what would do")
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
            if called == "print" and path not in COMMANDS:
                offenders.append(f"{label(path)}:{node.lineno} only commands print")
    assert not offenders, "\n".join(offenders)


def test_files_are_named_after_what_they_hold():
    nothing = {"util", "utils", "helper", "helpers", "common", "misc", "base", "manager"}
    for path in [*PACKAGE, *SCRIPTS, *TESTS, *BENCHMARKS]:
        words = {part.removeprefix("test_") for part in path.relative_to(ROOT).with_suffix("").parts}
        assert not words & nothing, label(path)


def test_files_are_short():
    long = {
        label(p): n for p in [*PACKAGE, *SCRIPTS, *TESTS, *BENCHMARKS] if (n := len(p.read_bytes().splitlines())) > 350
    }
    assert long == {}


def test_every_folder_of_the_package_is_packaged():
    folders = {path.parent for path in PACKAGE}
    assert [label(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def pins(name: str) -> dict[str, str]:
    """{package: version}; every line must pin one exactly."""
    result: dict[str, str] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith(("#", "-c ", "-r ")):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\d[0-9A-Za-z.]*)", line)
            assert match, f"{name}: {line!r} pins nothing exactly"
            package = re.sub(r"[-_.]+", "-", match[1]).lower()
            assert package not in result, f"{name}: {package} stands twice"
            result[package] = match[2]
    return result


def test_what_runs_is_pinned_exactly():
    needed = {"tensorflow", "keras", "keras-cv", "tensorflow-datasets", "importlib-resources", "absl-py", "numpy"}
    assert needed <= pins("requirements.txt").keys()
    assert pins("requirements-dev.txt").keys() == {
        "pytest",
        "pytest-xdist",
        "coverage",
        "ruff",
        "hypothesis",
        "tensorflow-serving-api",
        "kubernetes-validate",
        "check-jsonschema",
        "jsonschema",
        "pyyaml",
        "tf2onnx",
        "onnx",
        "onnxruntime",
    }


def test_the_edge_needs_no_framework():
    needed = {"numpy", "ai-edge-litert", "grpcio", "protobuf", "absl-py", "pillow"}
    assert pins("requirements-edge.txt").keys() == needed
    assert pins("requirements-edge.txt").items() <= pins("requirements.txt").items()


def test_constraints_agree_with_requirements():
    assert "-c constraints.txt" in (ROOT / "requirements.txt").read_text().splitlines()
    assert pins("requirements.txt").items() <= pins("constraints.txt").items()


def test_every_package_imported_is_required():
    """A package that arrives only with another may leave with it."""
    names = {
        "PIL": "pillow", "sklearn": "scikit-learn", "keras_cv": "keras-cv", "absl": "absl-py", "google": "protobuf",
        "grpc": "grpcio",
    }  # fmt: skip
    # asked for by name where a PyTorch checkpoint is read, and where ONNX is written or run
    optional = {"torch", "tf2onnx", "onnxruntime"}
    used = (
        set().union(*(tops(path) for path in [*PACKAGE, *SCRIPTS]))
        - set(sys.stdlib_module_names)
        - {"dico_tf"}
        - optional
    )
    assert {names.get(name, name.replace("_", "-")) for name in used} <= pins("requirements.txt").keys()
