"""Two processes of eight threads on pools of five: what OTLP tells of them is what the application itself has measured.

Counts agree exactly. Times agree within `ERROR_SHARE` of their sum and `ERROR_EACH` seconds for each measurement: the
application measures from outside, a switch of threads included. A value that is read when metrics are collected agrees
with the application's at some moment within `SKEW` seconds.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from threading import Barrier

import pytest

import servers
from e2e.program import Answer, Program, environment, free_port, last_points, script, wrapper
from querywatch.demo.receiver import Receiver
from querywatch.demo.telemetry import MetricPoint

pytestmark = pytest.mark.slow

PROCESSES, THREADS = 2, 8
POOL_SIZE, POOL_TIMEOUT = 5, 0.25
"""Connections of each process; seconds after which a call for one gives up."""
CLIENTS = PROCESSES * THREADS
REQUESTS = 25
"""Of each client, one after the other; the first ones of all clients at once, and long enough to time others out."""
FIRST, OTHERS = 800, (10, 20, 50, 100, 300)
"""Milliseconds that a request keeps the database at work."""
ERROR_SHARE, ERROR_EACH, SKEW = 0.05, 0.005, 0.1

COUNT = "db.client.connection.count"

Change = tuple[int, int]
"""When (ns since the epoch), and by how much."""


@dataclass(frozen=True)
class Measured:
    """One request as the application told of it; times are nanoseconds since the epoch."""

    instance: str
    status: int
    asked: int
    got: int
    returned: int

    @property
    def waited(self) -> float:
        """Seconds until the connection, or until it was given up."""
        return (self.got - self.asked) / 1e9

    @property
    def used(self) -> float:
        """Seconds from checkout to return; 0 where there was none."""
        return (self.returned - self.got) / 1e9


@dataclass(frozen=True)
class Load:
    """What the application has measured, and what was received."""

    measured: list[Measured]
    receiver: Receiver

    def last(self, name: str, instance: str = "") -> list[MetricPoint]:
        """Return the last points of a metric, of one process or of all."""
        points = last_points(self.receiver, name)
        return [point for point in points if instance in ("", point.origin.resource["service.instance.id"])]

    def counted(self, name: str) -> int:
        """Return the measurements of a histogram, of all processes together."""
        return sum(point.count for point in self.last(name))

    @property
    def instances(self) -> set[str]:
        """The processes that have answered."""
        return {request.instance for request in self.measured}


@pytest.fixture(scope="module")
def load(postgresql_server: servers.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """The whole life of a gunicorn under load, ended by SIGTERM right after the last answer."""
    url, port = postgresql_server.new_database(), free_port()
    output = tmp_path_factory.mktemp("load") / "output"
    pool = {"POOL_SIZE": str(POOL_SIZE), "POOL_TIMEOUT": str(POOL_TIMEOUT)}
    often = {"OTEL_METRIC_EXPORT_INTERVAL": "200", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    workers = ["--workers", str(PROCESSES), "--threads", str(THREADS), "--no-control-socket"]
    command = [*wrapper(), script("gunicorn"), "e2e.loaded:app", *workers, "--bind", f"127.0.0.1:{port}"]
    with Receiver() as receiver:
        variables = environment(receiver.endpoint, DATABASE_URL=servers.with_driver(url, "psycopg"), **pool, **often)
        with Program(command, variables, output, port) as program:
            answers = ask_all(program)
            assert program.stop() == 0, program.output
            assert "Traceback" not in program.output
        instances = {span.trace_id: span.origin.resource["service.instance.id"] for span in receiver.spans}
        yield Load([measured(answer, instances[answer.trace_id]) for answer in answers], receiver)
    postgresql_server.drop_database(url)


def ask_all(program: Program) -> list[Answer]:
    """Send every client's requests; return all answers."""
    start = Barrier(CLIENTS)

    def client(number: int) -> list[Answer]:
        rng = Random(number)
        start.wait(30)
        return [program.get(f"/work/{rng.choice(OTHERS) if n else FIRST}") for n in range(REQUESTS)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [answer for answers in pool.map(client, range(CLIENTS)) for answer in answers]


def measured(answer: Answer, instance: str) -> Measured:
    told = json.loads(answer.body)
    got = told.get("got", told.get("gave_up"))
    return Measured(instance, answer.status, told["asked"], got, told.get("returned", got))


def test_every_request_is_a_checkout_and_every_failed_one_a_timeout(load: Load) -> None:
    """Exactly: waits are requests, timeouts are answers with 500, uses and queries are answers with 200."""
    statuses = Counter(request.status for request in load.measured)
    assert statuses[200] + statuses[500] == CLIENTS * REQUESTS
    assert statuses[500] > 0
    assert load.counted("db.client.connection.wait_time") == CLIENTS * REQUESTS
    assert sum(point.value or 0 for point in load.last("db.client.connection.timeouts")) == statuses[500]
    assert load.counted("db.client.connection.use_time") == statuses[200]
    queries = last_points(load.receiver, "db.client.operation.duration", db_query_summary="SELECT pg_sleep")
    assert sum(point.count for point in queries) == statuses[200]


def test_each_process_has_series_of_its_own(load: Load) -> None:
    """Both processes answered; what each sent under its `service.instance.id` is what it did itself."""
    assert len(load.instances) == PROCESSES
    for instance in load.instances:
        mine = Counter(request.status for request in load.measured if request.instance == instance)
        [waits] = load.last("db.client.connection.wait_time", instance)
        [uses] = load.last("db.client.connection.use_time", instance)
        assert (waits.count, uses.count) == (mine.total(), mine[200])
        timeouts = load.last("db.client.connection.timeouts", instance)
        assert sum(point.value or 0 for point in timeouts) == mine[500]


def test_waiting_and_using_take_as_long_as_the_application_says(load: Load) -> None:
    """The sums of a process agree within the stated error; the time to make a connection is told apart."""
    for instance in load.instances:
        mine = [request for request in load.measured if request.instance == instance]
        [waits] = load.last("db.client.connection.wait_time", instance)
        [uses] = load.last("db.client.connection.use_time", instance)
        [created] = load.last("db.client.connection.create_time", instance)
        assert agree(waits.sum + created.sum, [request.waited for request in mine])
        assert agree(uses.sum, [request.used for request in mine if request.status == 200])


def agree(told: float, measurements: list[float]) -> bool:
    expected = sum(measurements)
    return abs(told - expected) <= ERROR_SHARE * expected + ERROR_EACH * len(measurements)


def test_those_that_timed_out_waited_for_the_timeout(load: Load) -> None:
    """The buckets from the pool's timeout on hold those that waited in vain at least."""
    failed = sum(request.status == 500 for request in load.measured)
    late = 0
    for waits in load.last("db.client.connection.wait_time"):
        late += sum(waits.bucket_counts[waits.bounds.index(POOL_TIMEOUT) + 1 :])
    assert late >= failed


def test_no_process_opens_more_connections_than_its_pool_has(load: Load) -> None:
    """Five were made by each process under load, all are idle in the end, and nobody waits any more."""
    for instance in load.instances:
        [created] = load.last("db.client.connection.create_time", instance)
        states = {p.attributes["db.client.connection.state"]: p.value for p in load.last(COUNT, instance)}
        [pending] = load.last("db.client.connection.pending_requests", instance)
        [maximum] = load.last("db.client.connection.max", instance)
        assert created.count == maximum.value == POOL_SIZE
        assert (states, pending.value) == ({"used": 0, "idle": POOL_SIZE}, 0)


def test_what_is_read_at_collection_is_what_the_application_did_then(load: Load) -> None:
    """Used and pending of each process at each collection: a value that the application's own clock confirms."""
    checked = 0
    for instance in load.instances:
        mine = [request for request in load.measured if request.instance == instance]
        used = timeline((request.got, request.returned) for request in mine if request.status == 200)
        pending = timeline((request.asked, request.got) for request in mine)
        for point in load.receiver.metrics:
            if point.origin.resource["service.instance.id"] != instance:
                continue
            if point.name == COUNT and point.attributes["db.client.connection.state"] == "used":
                assert point.value in around(used, point.time)
                checked += 1
            elif point.name == "querywatch.pool.utilization":
                assert point.value in {value / POOL_SIZE for value in around(used, point.time)}
            elif point.name == "db.client.connection.pending_requests":
                assert point.value in around(pending, point.time)
    assert checked > 2 * PROCESSES


def timeline(intervals: Iterable[tuple[int, int]]) -> list[Change]:
    """Return how many intervals are open from when on."""
    changes = sorted((when, change) for start, end in intervals for when, change in ((start, 1), (end, -1)))
    value, values = 0, [(0, 0)]
    for when, change in changes:
        value += change
        values.append((when, value))
    return values


def around(values: list[Change], when: int) -> range:
    """Return every value between the lowest and the highest within `SKEW` of that moment."""
    first, last = when - int(SKEW * 1e9), when + int(SKEW * 1e9)
    before = [value for time, value in values if time <= first][-1]
    seen = {before, *(value for time, value in values if first < time <= last)}
    return range(min(seen), max(seen) + 1)


def test_the_full_pool_was_seen(load: Load) -> None:
    """The burst at the start fills a pool while others wait: utilisation 1, and pending requests, came through OTLP."""
    peak = max(point.value or 0 for point in load.receiver.metrics if point.name == "querywatch.pool.utilization")
    waiting = [p.value for p in load.receiver.metrics if p.name == "db.client.connection.pending_requests"]
    assert peak == 1
    assert max(value or 0 for value in waiting) > 0


def test_saturation_is_one_finding_for_each_process(load: Load) -> None:
    """Hundreds of checkouts at a full pool are one critical finding in each process, with who holds connections."""
    findings = [log for log in load.receiver.logs if log.event_name == "querywatch.pool_saturation"]
    assert Counter(log.origin.resource["service.instance.id"] for log in findings) == dict.fromkeys(load.instances, 1)
    assert {log.attributes["querywatch.severity"] for log in findings} == {"critical"}
    assert all("/work/<int:milliseconds>" in log.attributes["querywatch.advice"] for log in findings)
    assert load.last("querywatch.findings") != []
    assert [log for log in load.receiver.logs if log.event_name == "querywatch.connection_leak"] == []
