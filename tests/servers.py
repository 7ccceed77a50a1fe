"""Real database servers for tests: each in a temporary directory, on a free port of 127.0.0.1, gone afterwards.

PostgreSQL and MariaDB refuse to run as root, so root runs them as the users of their Debian packages.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_LIMIT = 60.0
"""Seconds after which a server that does not answer is given up."""
STOP_LIMIT = 30.0
"""Seconds after which a server that was told to stop is killed."""


class ServerMissingError(Exception):
    """The programs of a database server are not on this machine."""


@dataclass
class Server:
    """A running database server that this process started; `url(name)` reaches one of its databases.

    `stop`, `start` and `restart` are for tests in which the database goes away: port and data stay the same.
    """

    base: str
    """Dialect, user and address: `postgresql://postgres@127.0.0.1:5433`."""
    command: Sequence[str | Path]
    ping: Sequence[str | Path]
    """A command that succeeds once the server answers."""
    client: Sequence[str | Path]
    """A command that runs the SQL statement given as its last argument."""
    user: str | None
    """The user that the server runs as; None: the one that runs the tests."""
    stop_signal: signal.Signals
    """Ends the server at once, with its clients still connected."""
    log: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def url(self, database: str) -> str:
        return f"{self.base}/{database}"

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        force = " WITH (FORCE)" if self.base.startswith("postgresql") else ""
        self.sql(f"DROP DATABASE {url.rpartition('/')[2]}{force}")

    def sql(self, statement: str) -> None:
        """Run one statement as the administrator, outside of every Python driver."""
        _run([*self.client, statement], user=None)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._leash(), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops the server in good order.
                **_as_user(self.user),
            )
        deadline = time.monotonic() + START_LIMIT
        while subprocess.run(self.ping, capture_output=True, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.command[0]} did not start:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals | None = None) -> None:
        """End the server; `signal.SIGKILL` makes it a crash."""
        if self._process is None:
            return
        self._process.send_signal(how or self.stop_signal)
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def _leash(self) -> Sequence[str]:
        """What makes the kernel stop the server when this process is killed; only Linux has it."""
        setpriv = shutil.which("setpriv")
        return [setpriv, "--pdeathsig", self.stop_signal.name.removeprefix("SIG")] if setpriv else []


@contextmanager
def postgresql() -> Iterator[Server]:
    """Run a PostgreSQL server of its own; whoever reaches its port is its superuser `postgres`."""
    user = _server_user("postgres")
    initdb = _program("initdb", "/usr/lib/postgresql/*/bin")
    bin_directory = initdb.parent
    with _directory(user) as directory:
        data, port = directory / "data", _free_port()
        address = ["--host=127.0.0.1", f"--port={port}", "--username=postgres"]
        _run([initdb, "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D", data], user)
        server = Server(
            base=f"postgresql://postgres@127.0.0.1:{port}",
            command=[
                *(bin_directory / "postgres", "-D", data, "-p", str(port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                *("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"),
            ],
            ping=[bin_directory / "pg_isready", *address],
            client=[bin_directory / "psql", *address, "--no-psqlrc", "--quiet", "--command"],
            user=user,
            stop_signal=signal.SIGINT,  # SIGTERM would wait for the clients.
            log=directory / "server.log",
        )
        yield from _running(server)


@contextmanager
def mariadb() -> Iterator[Server]:
    """Run a MariaDB server of its own; `root` needs no password there."""
    user = _server_user("mysql")
    mariadbd = _program("mariadbd", "/usr/sbin")
    with _directory(user) as directory:
        data, port = directory / "data", _free_port()
        address = ["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", f"--port={port}", "--user=root"]
        install = _program("mariadb-install-db", "/usr/bin")
        account = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        _run([install, "--no-defaults", f"--datadir={data}", *account], user)
        server = Server(
            base=f"mysql://root@127.0.0.1:{port}",
            command=[
                *(mariadbd, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"),
                *(f"--socket={directory / 'socket'}", f"--pid-file={directory / 'pid'}", "--skip-name-resolve"),
                *("--innodb-flush-log-at-trx-commit=0", "--character-set-server=utf8mb4"),
            ],
            ping=[_program("mariadb-admin", "/usr/bin"), *address, "ping"],
            client=[_program("mariadb", "/usr/bin"), *address, "--execute"],
            user=user,
            stop_signal=signal.SIGTERM,
            log=directory / "server.log",
        )
        yield from _running(server)


def with_driver(url: str, driver: str) -> str:
    """`postgresql://…` and `psycopg` make `postgresql+psycopg://…`."""
    dialect, separator, rest = url.partition("://")
    return f"{dialect}+{driver}{separator}{rest}"


def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _program(name: str, *directories: str) -> Path:
    """Find a program on the PATH or, the newest first, in directories that Debian keeps off it."""
    if found := shutil.which(name):
        return Path(found).resolve()
    candidates = [path for pattern in directories for path in Path("/").glob(f"{pattern.lstrip('/')}/{name}")]
    if not candidates:
        raise ServerMissingError(f"there is no {name} on this machine")
    return max(candidates, key=lambda path: (len(path.parts), str(path)))


def _server_user(name: str) -> str | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        raise ServerMissingError(f"there is no user {name} on this machine, and no server may be root") from None


def _as_user(user: str | None) -> dict[str, Any]:
    """Return the keyword arguments with which `subprocess` runs a program as that user, where it may be."""
    if user is None:
        return {"cwd": "/"}
    return {"cwd": "/", "user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _run(command: Sequence[str | Path], user: str | None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **_as_user(user))
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


@contextmanager
def _directory(user: str | None) -> Iterator[Path]:
    """Make a directory of that user's own; its path is short, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="querywatch-tests-") as name:
        if user is not None:
            shutil.chown(name, user, pwd.getpwnam(user).pw_gid)
        yield Path(name)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
