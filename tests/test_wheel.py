"""The wheel as users install it: built from this tree, into an environment that has nothing else."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, ROOT, cwd=directory)
    [path] = directory.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def contents(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a new environment that has the wheel, its `demo` extra, and what these require."""
    environment = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", f"querywatch[demo] @ {wheel.as_uri()}", cwd=environment)
    return programs


@pytest.mark.parametrize("file", ["querywatch/py.typed", "querywatch/examples/bookshop/__init__.py"])
def test_the_wheel_has_the_type_marker_and_the_bookshop(contents: list[str], file: str) -> None:
    assert file in contents


def test_the_wheel_has_the_licence(contents: list[str]) -> None:
    assert [name for name in contents if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_wheel_has_every_file_of_the_bookshop(contents: list[str]) -> None:
    files = run("git", "ls-files", "examples/bookshop", cwd=ROOT).splitlines()
    assert files
    assert {f"querywatch/{name}" for name in files} - set(contents) == set()


def test_the_wheel_has_no_tests(contents: list[str]) -> None:
    assert {name.partition("/")[0] for name in contents if ".dist-info/" not in name} == {"querywatch"}
    assert [name for name in contents if "test_" in name or "conftest" in name] == []


def test_the_command_says_its_version(programs: Path, wheel: Path) -> None:
    version = wheel.name.split("-")[1]
    assert version in run(programs / "querywatch", "--version", cwd=programs)


def test_every_entry_point_can_be_loaded(programs: Path) -> None:
    """`opentelemetry-instrument` finds the distro, the configurator and the instrumentor by their entry points."""
    script = (
        "import json; from importlib.metadata import distribution;"
        "points = distribution('querywatch').entry_points;"
        "print(json.dumps({point.group: point.load().__qualname__ for point in points}))"
    )
    assert json.loads(run(programs / "python", "-c", script, cwd=programs)) == {
        "console_scripts": "main",
        "opentelemetry_distro": "QueryWatchDistro",
        "opentelemetry_configurator": "QueryWatchConfigurator",
        "opentelemetry_instrumentor": "QueryWatchInstrumentor",
    }


def test_importing_the_package_imports_neither_framework_nor_database(programs: Path) -> None:
    """Off means absent: an application that only asks for the version, say, pays for nothing."""
    script = "import sys, querywatch; print(sorted({'flask', 'sqlalchemy', 'rich'} & set(sys.modules)))"
    assert run(programs / "python", "-c", script, cwd=programs).strip() == "[]"
