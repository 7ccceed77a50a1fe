"""The bookshop keeps what its tour promises: every mistake has a twin that answers the same with fewer queries."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from bookshop import create_app, load
from bookshop.models import Base, Book, db
from bookshop.tour import TOUR, Visit

EXAMPLES = Path(__file__).parents[1] / "examples"
BY_PATH = {visit.path: visit for visit in TOUR}
PAIRS = [visit for visit in TOUR if visit.twin]
REQUEST_KINDS = {"n_plus_one", "redundant_query", "query_volume", "slow_query", "slow_request"}
THRESHOLD = 5  # runs that make a repeated query a finding
MAX_QUERIES = 20


@contextmanager
def _running(url: str) -> Iterator[Flask]:
    app = create_app(url)
    try:
        yield app
    finally:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with _running(f"sqlite:///{tmp_path_factory.mktemp('bookshop')}/shop.db") as app:
        yield app


@pytest.fixture
def client(shop: Flask) -> FlaskClient:
    return shop.test_client()


@pytest.fixture
def statements(shop: Flask) -> Iterator[list[tuple[str, str]]]:
    """Statement and parameters of every execution, as they come."""
    seen: list[tuple[str, str]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool) -> None:
        seen.append((statement, f"{executemany} {parameters}"))

    with shop.app_context(), _listening(db.engine, note):
        yield seen


@contextmanager
def _listening(engine: Any, listener: Callable[..., None]) -> Iterator[None]:
    event.listen(engine, "before_cursor_execute", listener)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", listener)


def _visit(client: FlaskClient, visit: Visit) -> TestResponse:
    response = client.open(visit.path, method=visit.method, json=visit.json)
    assert response.status_code in {200, 201}, response.text
    return response


def _most(seen: list[tuple[str, str]]) -> int:
    return max(Counter(statement for statement, _ in seen).values())


@pytest.mark.parametrize("visit", TOUR, ids=lambda visit: visit.title)
def test_every_stop_of_the_tour_answers(client: FlaskClient, visit: Visit) -> None:
    assert _visit(client, visit).data


@pytest.mark.parametrize("visit", PAIRS, ids=lambda visit: visit.title)
def test_a_twin_answers_the_same_bytes_however_often_it_is_asked(client: FlaskClient, visit: Visit) -> None:
    twin = BY_PATH[visit.twin or ""]
    answers = {_visit(client, each).data for each in (visit, twin, visit, twin)}
    assert len(answers) == 1


@pytest.mark.parametrize("visit", [visit for visit in TOUR if not visit.expects], ids=lambda visit: visit.title)
def test_a_route_without_findings_repeats_no_query(
    client: FlaskClient, statements: list[tuple[str, str]], visit: Visit
) -> None:
    _visit(client, visit)
    assert _most(statements) < THRESHOLD
    assert len(statements) < 10


@pytest.mark.parametrize("visit", PAIRS, ids=lambda visit: visit.title)
def test_a_mistake_shows_in_its_queries(client: FlaskClient, statements: list[tuple[str, str]], visit: Visit) -> None:
    """N+1: one statement with many parameters; redundant: with the same ones; volume: many statements."""
    _visit(client, visit)
    most_equal = max(Counter(statements).values())
    assert (_most(statements) >= THRESHOLD) == (visit.expects[0] in {"n_plus_one", "redundant_query"})
    assert (most_equal >= THRESHOLD) == (visit.expects == ("redundant_query",))
    assert (len(statements) > MAX_QUERIES) == (visit.expects == ("query_volume",))


def test_the_tour_stops_at_every_route_once(shop: Flask) -> None:
    routes = shop.url_map.bind("localhost")
    visited = [routes.match(urlsplit(visit.path).path, method=visit.method)[0] for visit in TOUR]
    assert sorted(visited) == sorted(rule.endpoint for rule in shop.url_map.iter_rules())


def test_the_tour_shows_every_kind_of_request_finding_and_each_has_a_twin() -> None:
    assert {kind for visit in TOUR for kind in visit.expects} == REQUEST_KINDS
    assert [visit for visit in TOUR if bool(visit.expects) != bool(visit.twin)] == []
    assert [visit.title for visit in PAIRS if BY_PATH[visit.twin or ""].expects] == []


def test_there_are_five_blueprints_for_clients(shop: Flask) -> None:
    prefixes = {rule.rule.split("/")[3] for rule in shop.url_map.iter_rules() if rule.rule.startswith("/api/client/")}
    assert prefixes == {"catalogue", "orders", "customers", "reviews", "reports"}


def _imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_the_bookshop_knows_nothing_of_telemetry() -> None:
    imported = {name for file in (EXAMPLES / "bookshop").rglob("*.py") for name in _imports(file)}
    assert "flask" in imported
    assert not imported & {"querywatch", "opentelemetry"}


@pytest.mark.parametrize("name", ["tour.py", "load.py"])
def test_tour_and_load_need_the_standard_library_only(name: str) -> None:
    assert _imports(EXAMPLES / "bookshop" / name) <= sys.stdlib_module_names | {"bookshop"}


def _digest(app: Flask) -> str:
    digest = hashlib.sha256()
    with app.app_context():
        for table in Base.metadata.sorted_tables:
            rows = db.session.execute(select(table).order_by(*table.primary_key)).all()
            digest.update(f"{table.name} {rows}".encode())
    return digest.hexdigest()


def test_the_seed_command_makes_the_same_rows_as_the_first_start(tmp_path: Path) -> None:
    with _running(f"sqlite:///{tmp_path}/again.db") as app:
        first = _digest(app)
        with app.app_context():
            db.session.get_one(Book, 1).title = "changed"
            db.session.commit()
        changed = _digest(app)
        result = app.test_cli_runner().invoke(args=["seed"])
        assert result.exit_code == 0, result.output
        assert (_digest(app), first == changed) == (first, False)


def test_a_second_start_keeps_the_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/kept.db"
    with _running(url) as app:
        order = app.test_client().post("/api/client/orders/", json={"customer_id": 1, "books": {"3": 1}})
    with _running(url) as app:
        assert app.test_client().get(f"/api/client/orders/{order.get_json()['id']}").status_code == 200


def test_an_order_takes_its_copies_from_the_stock(client: FlaskClient, shop: Flask) -> None:
    def stock() -> int:
        with shop.app_context():
            return db.session.get_one(Book, 29).stock

    before = stock()
    answer = client.post("/api/client/orders/", json={"customer_id": 5, "books": {"29": 2}})
    assert answer.status_code == 201
    assert stock() == max(0, before - 2)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"customer_id": 1, "books": {}}, 400),
        ({"customer_id": 1, "books": {"17": 0}}, 400),
        ({"customer_id": 1, "books": {"seventeen": 1}}, 400),
        ({"customer_id": 0, "books": {"17": 1}}, 404),
        ({"customer_id": 1, "books": {"0": 1}}, 404),
    ],
)
def test_a_bad_order_is_refused(client: FlaskClient, body: object, status: int) -> None:
    answer = client.post("/api/client/orders/", json=body)
    assert (answer.status_code, sorted(answer.get_json())) == (status, ["detail", "error"])


@pytest.mark.parametrize("body", [{}, [], {"city": 5}])
def test_a_newsletter_needs_a_city(client: FlaskClient, body: object) -> None:
    assert client.post("/api/client/customers/newsletter", json=body).status_code == 400


def test_the_default_database_is_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    app = create_app()
    with app.app_context():
        db.engine.dispose()
    assert (tmp_path / "instance" / "bookshop.db").stat().st_size > 1_000_000


def test_the_load_walks_and_reports_every_failure(shop: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    server = make_server("127.0.0.1", 0, shop, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        code = load.main(["--url", url, "--seconds", "0.5", "--workers", "2"])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (code, "/api/client" in capsys.readouterr().out) == (0, True)
    assert load.main(["--url", url, "--seconds", "0.1", "--workers", "1"]) == 1
