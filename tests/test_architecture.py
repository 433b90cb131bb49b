"""Rules on the code as a whole: which module may import which, and where PyTorch and flags stand."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"realsr_jax": ROOT / "realsr_jax", "configs": ROOT / "configs", "convert": ROOT / "convert"}
FILES = [path for folder in FOLDERS.values() for path in sorted(folder.rglob("*.py"))]

MAY_IMPORT = {
    "config": set(),
    "ops": {"winograd"},
    "winograd": set(),
    "losses": set(),
    "_image_decode": {"_image_metadata"},
    "_image_encode": {"_image_metadata"},
    "_image_metadata": set(),
    "files": set(),
    "images": {"_image_decode", "_image_encode", "_image_metadata", "files"},
    "tiling": {"config"},
    "metrics": {"losses"},
    "layers": {"ops"},
    "models": {"config", "ops", "layers", "models"},
    "weights": {"config", "models"},
    "upscaler": {"config", "models", "tiling", "weights"},
    "inference": {"config", "images", "ops", "upscaler", "weights"},
    "training_config": {"config"},
    "data": {"training_config", "images", "files", "data"},
    "evaluation": {"images", "metrics"},
    "train": {
        "files",
        "config",
        "training_config",
        "losses",
        "models",
        "weights",
        "upscaler",
        "evaluation",
        "data",
        "train",
    },
    "configs": {"config", "training_config", "configs"},
    "convert": {"config", "layers", "models", "weights", "convert", "cli"},
    "benchmark": {
        "config",
        "models",
        "tiling",
        "weights",
        "upscaler",
        "data",
        "training_config",
        "train",
        "convert",
        "configs",
        "benchmark",
    },
    "cli": {
        "benchmark",
        "config",
        "training_config",
        "images",
        "weights",
        "inference",
        "evaluation",
        "report_page",
        "files",
        "data",
        "train",
        "wash",
        "cli",
    },
    "report_page": {"evaluation", "files", "web_page"},
    "wash": {"files", "images", "web_page", "wash"},
    "web_page": {"images"},
    "__init__": {"losses", "metrics", "ops", "upscaler"},
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
    assert used <= MAY_IMPORT[module], f"{module} must not import {used - MAY_IMPORT[module]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_foreign_packages_stay_where_they_belong(path):
    packages = {name.split(".")[0] for name in _imports(path)}
    assert not packages & {"torch", "tensorflow"}
    if "absl" in packages:
        # Grain's worker processes read absl flags, which somebody must have parsed.
        assert _module(path) == "cli" or path.name in ("__main__.py", "pipeline.py")
    if packages & {"PIL", "imagecodecs"}:
        assert "image" in path.stem
    if "cv2" in packages:
        assert _module(path) == "wash" and path.stem == "opencv"
    if _module(path) == "wash":
        assert not packages & {"jax", "flax", "grain"}
    if "orbax" in packages:
        assert path.stem in ("weights", "checkpoints")
