"""Rules on the code as a whole: which module may import which, and where PyTorch and flags stand."""

import ast
import collections
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"realsr_jax": ROOT / "realsr_jax", "configs": ROOT / "configs", "convert": ROOT / "convert"}
FILES = [path for folder in FOLDERS.values() for path in sorted(folder.rglob("*.py"))]

# Each may import what stands in its row, and itself.
MAY_IMPORT = {
    "system": set(),
    "ops": set(),
    "losses": set(),
    "metrics": {"losses"},
    "images": {"system"},
    "models": {"ops", "system"},
    "weights": {"models", "system"},
    "upscaling": {"images", "models", "ops", "system", "weights"},
    "data": {"images", "ops", "system", "wash"},
    "evaluate": {"data", "images", "metrics", "system", "upscaling"},
    "train": {"data", "evaluate", "losses", "models", "system", "upscaling", "weights"},
    "wash": {"images", "system"},
    "configs": {"data", "losses", "models", "train", "upscaling"},
    "convert": {"cli", "models", "system", "weights"},
    "benchmark": {
        *(
            "configs",
            "convert",
            "images",
            "losses",
            "models",
            "ops",
            "system",
            "train",
            "upscaling",
            "weights",
        ),
    },
    "cli": {
        *("benchmark", "configs", "data", "evaluate", "images", "models", "system", "train"),
        *("upscaling", "wash", "weights"),
    },
    "__init__": {"losses", "metrics", "ops", "upscaling"},
}


def _module(path):
    """The module's name below the package: a file's, or that of the folder it stands in."""
    for name in ("configs", "convert"):
        if path.is_relative_to(FOLDERS[name]):
            return name
    relative = path.relative_to(FOLDERS["realsr_jax"])
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _imports(path):
    """Full names of everything that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"realsr_jax.{_module(path)}" + (f".{node.module}" if node.module else "")
            base = base if node.level else str(node.module)
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    module = _module(path)
    used = {name.split(".")[1] for name in _imports(path) if name.startswith("realsr_jax.")}
    assert used <= MAY_IMPORT[module] | {module}, f"{module} must not import {used - MAY_IMPORT[module]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_foreign_packages_stay_where_they_belong(path):
    packages = {name.split(".")[0] for name in _imports(path)}
    assert not packages & {"torch", "tensorflow", "tests"}
    if "absl" in packages or "realsr_jax.cli" in {name.rpartition(".")[0] for name in _imports(path)}:
        # Grain's worker processes read absl flags, which somebody must have parsed.
        assert _module(path) == "cli" or path.name in ("command.py", "batches.py")
    if packages & {"PIL", "imagecodecs"}:
        assert _module(path) == "images"
    if "cv2" in packages:
        assert _module(path) == "wash" and path.stem == "opencv"
    if _module(path) == "wash":
        assert not packages & {"jax", "flax", "grain"}
    if "orbax" in packages:
        assert path.stem == "checkpoints"


def _public_names(path):
    """Public functions, classes and constants of a file."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name) | ast.ClassDef(name) | ast.AnnAssign(ast.Name(name)):
                names = [name]
            case ast.Assign():
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            case _:
                names = []
        yield from (name for name in names if not name.startswith("_"))


def test_no_two_public_things_have_one_name():
    places = collections.defaultdict(list)
    for path in FILES:
        for name in _public_names(path):
            places[name].append(str(path.relative_to(ROOT)))
    # Every command has a `run`, every configuration a `get_config`.
    twice = {
        name: where for name, where in places.items() if len(where) > 1 and name not in ("run", "get_config")
    }
    assert not twice


def test_the_package_is_whole_wherever_it_is_imported_from(tmp_path):
    """A folder `convert` beside the package must not become a part of it."""
    (tmp_path / "convert").mkdir()
    (tmp_path / "convert" / "__main__.py").write_text("")
    (tmp_path / "realsr_jax").symlink_to(ROOT / "realsr_jax")
    code = (
        "import realsr_jax, realsr_jax.convert, realsr_jax.configs; print(len(list(realsr_jax.__path__)), "
        "realsr_jax.convert.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", str(tmp_path / "realsr_jax" / "convert" / "__init__.py")]
