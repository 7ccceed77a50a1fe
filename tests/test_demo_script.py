"""`examples/demo`, in a clone of nothing but itself, with stand-ins for Python and the installed command."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "demo"
# What the script needs of a system, without its Pythons.
TOOLS = ("bash", "env", "dirname", "cat", "rm")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a blank in its path, and an empty folder of programs beside it."""
    clone = tmp_path / "a clone"
    (clone / "examples").mkdir(parents=True)
    shutil.copy(SCRIPT, clone / "examples")
    (clone / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "")
    return clone


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def run(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(clone.parent / "bin"), "HOME": os.environ.get("HOME", "/")}
    command = [str(clone / "examples" / "demo"), *arguments]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=30, check=False)


def fake_python(clone: Path) -> None:
    """A python3 whose `-m venv` makes an environment in which pip installs a `querywatch` that echoes."""
    command = "$3/bin/querywatch"
    make = f"""printf '#!/usr/bin/env bash\\necho "$@"\\n' > "{command}"; chmod +x "{command}" """
    pip = '"$3/bin/python"'
    venv = f"mkdir -p \"$3/bin\"; printf '#!/usr/bin/env bash\\n' > {pip}; chmod +x {pip}; {make}"
    program(clone.parent / "bin" / "python3", f'[[ $1 == -m ]] || exit 0\n{venv}; echo made >> "{clone}/made"')
    for tool in ("mkdir", "chmod"):
        (clone.parent / "bin" / tool).symlink_to(shutil.which(tool) or "")


def test_it_installs_once_and_hands_its_arguments_on(clone: Path) -> None:
    """The environment is made once, with one line on standard error, and again only when pyproject.toml changed."""
    fake_python(clone)
    first, second = run(clone, "--json", "a b"), run(clone)
    assert (first.returncode, first.stdout) == (0, "demo --json a b\n")
    assert first.stderr.count("\n") == 1
    assert (second.returncode, second.stdout, second.stderr) == (0, "demo\n", "")
    assert (clone / "made").read_text() == "made\n"
    (clone / "pyproject.toml").write_text("[project]\nversion = '2'\n")
    assert run(clone).returncode == 0
    assert (clone / "made").read_text() == "made\nmade\n"


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("echo Python 3.9.2; exit 1", "Python 3.11 or newer is needed; python3 is Python 3.9.2"),
        ("exit 127", "Python 3.11 or newer is needed; python3 is missing"),
        ("[[ $2 != *ensurepip* ]]", "apt install python3-venv"),
    ],
)
def test_what_is_missing_is_said(clone: Path, python: str, message: str) -> None:
    """A Python that is too old, not there, or without venv ends the script with what to do, and nothing installed."""
    program(clone.parent / "bin" / "python3", python)
    finished = run(clone)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert not (clone / ".venv" / "demo").exists()
