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
from sqlalchemy.pool import QueuePool
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from bookshop import create_app, load
from bookshop.models import Base, Book, db
from bookshop.tour import POOL_TOUR, TOUR, Visit
from bookshop.views import office

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


@pytest.fixture
def troubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The bookshop with its back office, whose pool nobody has leaked a connection of yet."""
    monkeypatch.setenv("BOOKSHOP_POOL_TROUBLE", "true")
    monkeypatch.setattr(office, "_unconfirmed", [])
    with _running(f"sqlite:///{tmp_path}/shop.db") as app:
        yield app
        with app.app_context():
            db.engines[office.BIND].dispose()


def _in_use(app: Flask) -> int:
    with app.app_context():
        pool = db.engines[office.BIND].pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


def test_the_back_office_is_closed_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody leaks by accident: without the setting, or with it switched off, no such route and no second engine."""
    monkeypatch.setenv("BOOKSHOP_POOL_TROUBLE", "false")
    with _running(f"sqlite:///{tmp_path}/shop.db") as app:
        statuses = {app.test_client().open(visit.path, method=visit.method).status_code for visit in POOL_TOUR}
        with app.app_context():
            engines = list(db.engines)
    assert (statuses, engines) == ({404}, [None])


def test_the_tours_stop_at_every_route_of_the_troubled_shop(troubled: Flask) -> None:
    """The second tour has the back office's routes and no other, each mistake above its twin."""
    routes = troubled.url_map.bind("localhost")
    visited = [routes.match(urlsplit(visit.path).path, method=visit.method)[0] for visit in (*TOUR, *POOL_TOUR)]
    assert sorted(visited) == sorted(rule.endpoint for rule in troubled.url_map.iter_rules())
    assert [bool(visit.twin) for visit in POOL_TOUR] == [True, False] * 3
    assert {kind for visit in POOL_TOUR for kind in visit.expects} == {"connection_leak", "pool_saturation"}


def test_the_back_offices_twins_answer_the_same_bytes(troubled: Flask) -> None:
    """The fix of a mistake changes nothing but the connections."""
    client = troubled.test_client()
    answers = {visit.path: _visit(client, visit).data for visit in POOL_TOUR}
    assert [visit.path for visit in POOL_TOUR if visit.twin and answers[visit.path] != answers[visit.twin]] == []


def test_each_mistake_does_to_the_pool_what_it_is_there_for(troubled: Flask) -> None:
    """The stocktake loses one connection for good; the others use most, and all, and give them back; twins need one."""
    client, most = troubled.test_client(), 0
    used: dict[str, tuple[int, int]] = {}

    def note(*_: Any) -> None:
        nonlocal most
        most = max(most, _in_use(troubled))

    with troubled.app_context():
        engine = db.engines[office.BIND]
    with _listening(engine, note):
        for visit in POOL_TOUR:
            most = 0
            _visit(client, visit)
            used[visit.path.removeprefix("/api/office/")] = most, _in_use(troubled)
    assert used == {
        "stocktake": (1, 1),
        "stocktake/fixed": (2, 1),
        "price-lists": (5, 1),
        "price-lists/fixed": (2, 1),
        "audit": (6, 1),
        "audit/fixed": (2, 1),
    }


@pytest.mark.parametrize("body", [{}, [], {"counted": 5}, {"counted": {"x": 1}}])
def test_a_stocktake_needs_copies_and_leaks_nothing_without(troubled: Flask, body: object) -> None:
    """A bad stocktake is refused, right and wrong alike, before a connection is taken."""
    client = troubled.test_client()
    statuses = [client.post(f"/api/office/stocktake{twin}", json=body).status_code for twin in ("", "/fixed")]
    assert (statuses, _in_use(troubled)) == ([400, 400], 0)


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
