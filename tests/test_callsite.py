"""The application's line: which frame it is, and how it is named."""

import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader

from querywatch import callsite
from querywatch.callsite import Callsite

THIS = Path(__file__)


def load(path: Path, source: str, name: str = "made") -> Any:
    """Write a module, and run it as if it had been imported from there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    module = ModuleType(name)
    module.__file__ = str(path)
    exec(compile(source, str(path), "exec"), vars(module))
    return module


CALL = "def call(function):\n    return function()\n"


def test_the_nearest_frame_of_the_application_is_found() -> None:
    found = callsite.find()
    assert found is not None
    assert (found.file, found.function) == (str(THIS), f"{__name__}.test_the_nearest_frame_of_the_application_is_found")
    assert THIS.read_text().splitlines()[found.line - 1].strip() == "found = callsite.find()"
    assert found.place == f"test_callsite.py:{found.line}"


def test_the_attributes_are_those_of_the_semantic_conventions() -> None:
    assert Callsite("/app/views.py", 7, "views.show", "views.py:7").attributes() == {
        "code.file.path": "/app/views.py",
        "code.line.number": 7,
        "code.function.name": "views.show",
    }


def test_methods_and_inner_functions_have_their_qualified_name() -> None:
    class View:
        def get(self) -> Callsite | None:
            return callsite.find()

    found = View().get()
    assert found is not None
    assert found.function.endswith("test_methods_and_inner_functions_have_their_qualified_name.<locals>.View.get")


@pytest.mark.parametrize(
    "package", ["sqlalchemy/orm/query.py", "flask_restful/api.py", "sqlalchemy_utils/x.py", "jinja2/a.py"]
)
def test_frames_of_frameworks_are_passed_over(package: str, tmp_path: Path) -> None:
    framework = load(tmp_path / "lib/python3/site-packages" / package, CALL)
    found = framework.call(callsite.find)
    assert found.file == str(THIS)


def test_frames_of_other_installed_packages_are_passed_over_where_there_is_an_application(tmp_path: Path) -> None:
    package = load(tmp_path / "lib/python3/site-packages/six.py", CALL)
    assert package.call(callsite.find).file == str(THIS)


def without_application(**names: Any) -> Any:
    """Return what `show(call, find)` of these names returns where no frame is an application's."""
    results: list[Any] = []
    source = "def run():\n    keep(show(call, find))\n"
    names |= {"keep": results.append, "find": callsite.find}
    exec(compile(source, "<generated>", "exec"), names)
    thread = threading.Thread(target=names["run"])
    thread.start()
    thread.join()
    return results[0]


def test_an_application_that_is_an_installed_package_has_lines(tmp_path: Path) -> None:
    """Then the nearest frame that is no framework's is the application's."""
    site = tmp_path / "lib/python3/site-packages"
    shop = load(site / "shop/views.py", "def show(call, find):\n    return call(find)\n", "shop.views")
    framework = load(site / "sqlalchemy/engine.py", CALL)
    found = without_application(show=shop.show, call=framework.call)
    assert (found.file, found.line, found.function) == (str(site / "shop/views.py"), 2, "shop.views.show")


def test_where_only_frameworks_run_there_is_no_line(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3/site-packages"
    flask = load(site / "flask/app.py", "def show(call, find):\n    return call(find)\n")
    assert without_application(show=flask.show, call=load(site / "sqlalchemy/engine.py", CALL).call) is None


def test_the_walk_ends_at_the_entry_of_the_request() -> None:
    """What lies below it is the server, which is nobody's application."""

    def entry() -> Callsite | None:
        return callsite.find()

    assert entry() is not None
    callsite.stop_at(entry)
    assert entry() is None


def test_a_template_names_its_own_file_and_line(tmp_path: Path) -> None:
    """Not the line of the Python that Jinja has made of it."""
    (tmp_path / "page.html").write_text(
        "{# one #}\n{% for x in [1] %}\n  <p>\n    {{ keep(find()) }}\n  </p>\n{% endfor %}\n"
    )
    found: list[Callsite] = []
    template = Environment(loader=FileSystemLoader(tmp_path), autoescape=True).get_template("page.html")
    template.render(keep=found.append, find=callsite.find)
    assert (found[0].file, found[0].line) == (str(tmp_path / "page.html"), 4)


def test_two_files_of_one_name_in_two_directories_have_two_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    one, two = (load(tmp_path / name / "views.py", "def find(f):\n    return f()\n") for name in ("a", "b"))
    assert [made.find(callsite.find).place for made in (one, two)] == ["a/views.py:2", "b/views.py:2"]


def test_a_place_is_relative_to_the_innermost_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are then the same in every deployment, wherever the application lies."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    module = load(tmp_path / "src/shop/views.py", "def find(f):\n    return f()\n")
    found = module.find(callsite.find)
    assert (found.place, found.file) == ("shop/views.py:2", str(tmp_path / "src/shop/views.py"))


def test_a_thread_has_the_line_of_its_own_stack() -> None:
    found: list[Callsite | None] = []
    thread = threading.Thread(target=lambda: found.append(callsite.find()))
    thread.start()
    thread.join()
    assert found[0] is not None
    assert found[0].function.endswith(".<lambda>")


def test_a_function_has_the_line_where_it_is_defined() -> None:
    found = callsite.of_function(load)
    assert found is not None
    assert (found.file, found.line) == (str(THIS), load.__code__.co_firstlineno)
    assert callsite.of_function(print) is None
