"""A Flask application with a pool of two connections, which it fills, exhausts and leaks when it is asked to.

`DATABASE_URL` names a database; the tables don't matter.
"""

import os
from typing import Any

from flask import Flask
from sqlalchemy import QueuePool, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

app = Flask(__name__)
engine = create_engine(
    os.environ["DATABASE_URL"],
    poolclass=QueuePool,
    pool_size=1,
    max_overflow=1,
    pool_timeout=0.1,
    pool_logging_name="shop",
)
kept: list[Any] = []


@app.get("/fine")
def fine() -> str:
    with engine.connect() as connection:
        return str(connection.scalar(text("SELECT 42")))


@app.get("/exhausted")
def exhausted() -> str:
    with engine.connect(), engine.connect():
        try:
            engine.connect()
        except PoolTimeoutError:
            return "exhausted"
    return "there was one more"


@app.get("/leak")
def leak() -> str:
    kept.append(engine.connect())
    return "left"


@app.get("/return")
def give_back() -> str:
    kept.pop().close()
    return "returned"
