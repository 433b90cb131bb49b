"""What the README files say holds: commands take their flags, tables come from registries, links lead on."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from realsr_jax.models import NETWORKS

ROOT = Path(__file__).resolve().parent.parent
READMES = [
    path
    for path in [
        ROOT / "README.md",
        *sorted(ROOT.glob("*/README.md")),
        *sorted(ROOT.glob("realsr_jax/*/README.md")),
    ]
    if not path.parent.is_symlink()
]
MODULES = {"convert": "realsr_jax.convert.command"} | {
    name: f"realsr_jax.cli.{name}"
    for name in ("benchmark", "evaluate", "prepare", "train", "upscale", "wash")
}


def commands():
    """Every command line of this package in a shell block, as (file, words)."""
    for path in READMES:
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.search(r"realsr-\w+ .*", line)
                if found:
                    yield path, shlex.split(found[0], comments=True)


@pytest.mark.parametrize(("path", "words"), list(commands()), ids=lambda value: str(value)[:60])
def test_a_command_takes_its_flags(path, words, monkeypatch, capsys):
    module = importlib.import_module(MODULES[words[0].removeprefix("realsr-")])
    monkeypatch.setattr(module, "_main", lambda *values: 0)
    words = ["--config=default_x2" if word == "--config=my_run.py" else word for word in words]
    assert module.run(words) == 0, f"{path.name}: {capsys.readouterr().err}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140


def test_the_table_of_networks_is_the_registrys():
    rows = re.findall(r"^\| (.+?) \| `(\w+)` \| ([\d,]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    expected = [(network.checkpoints, name, f"{network.parameters:,}") for name, network in NETWORKS.items()]
    assert rows == expected


@pytest.mark.parametrize(
    "path", [*READMES, ROOT / "BUILD_NOTES.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_python_examples_run(tmp_path, monkeypatch):
    """The example from Python on a photo, and the configuration as a file."""
    from PIL import Image

    from realsr_jax.cli import config_files

    examples = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    monkeypatch.chdir(tmp_path)
    photo = Image.open(ROOT / "tests" / "data" / "readme" / "church.png").crop((0, 0, 40, 30))
    photo.save("photo.jpg")
    exec(compile(examples[0], "README.md", "exec"), {})
    with Image.open("photo_x2.png") as result:
        assert result.size == (80, 60)
    Path("my_run.py").write_text(examples[1])
    config_files.load_config("my_run.py").validate()
