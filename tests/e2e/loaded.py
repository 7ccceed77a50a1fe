"""A Flask application with a small pool, which measures for itself what it waits for and how long it holds.

Every answer tells when its connection was asked for, got and given back: nanoseconds since the epoch. `DATABASE_URL`
names a PostgreSQL database; `POOL_SIZE` connections, `POOL_TIMEOUT` seconds.
"""

import os
import time

from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

app = Flask(__name__)
engine = create_engine(
    os.environ["DATABASE_URL"],
    pool_size=int(os.environ["POOL_SIZE"]),
    max_overflow=0,
    pool_timeout=float(os.environ["POOL_TIMEOUT"]),
)


@app.get("/work/<int:milliseconds>")
def work(milliseconds: int) -> tuple[dict[str, int], int]:
    """Let the database work for so long; 500 where the pool had no connection in time."""
    told = {"process": os.getpid(), "asked": time.time_ns()}
    try:
        connection = engine.connect()
    except PoolTimeoutError:
        return told | {"gave_up": time.time_ns()}, 500
    told["got"] = time.time_ns()
    with connection:
        connection.execute(text("SELECT * FROM pg_sleep(:seconds)"), {"seconds": milliseconds / 1000})
    return told | {"returned": time.time_ns()}, 200
