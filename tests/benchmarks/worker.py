"""The measured process: a small application on in-memory SQLite, driven through its WSGI entry, without a socket.

Reads one page's name and a number of requests a line from standard input, and answers the CPU seconds that the
requests took in this process, the exporters' threads included.
"""

import sys
import time

from flask import Flask
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from sqlalchemy import ForeignKey, StaticPool, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from werkzeug.test import EnvironBuilder, run_wsgi_app

AUTHORS = 20


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship()


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))


engine = create_engine("sqlite://", poolclass=StaticPool)
app = Flask("benchmark")


@app.get("/orm/n-plus-one")
def orm_n_plus_one() -> list[int]:
    with Session(engine) as session:
        return [len(author.books) for author in session.scalars(select(Author))]


@app.get("/orm/clean")
def orm_clean() -> list[int]:
    with Session(engine) as session:
        return [len(author.books) for author in session.scalars(select(Author).options(selectinload(Author.books)))]


@app.get("/core/n-plus-one")
def core_n_plus_one() -> list[int]:
    with engine.connect() as connection:
        ids = connection.scalars(select(Author.id)).all()
        books = Book.__table__
        return [len(connection.execute(select(books.c.id).where(books.c.author_id == n)).all()) for n in ids]


@app.get("/core/clean")
def core_clean() -> list[int]:
    with engine.connect() as connection:
        return [
            len(connection.execute(select(Author.id)).all()),
            len(connection.execute(select(Book.id).where(Book.author_id.in_(range(AUTHORS)))).all()),
        ]


def seed() -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(
            Author(name=f"author {n}", books=[Book(title=f"book {n}.{m}") for m in range(3)]) for n in range(AUTHORS)
        )
        session.commit()


def flush() -> None:
    """Export what the requests left behind, so that its cost is theirs."""
    for provider in (trace.get_tracer_provider(), get_logger_provider(), metrics.get_meter_provider()):
        if hasattr(provider, "force_flush"):
            provider.force_flush()


def main() -> None:
    seed()
    for line in sys.stdin:
        path, _, requests = line.partition(" ")
        environ = EnvironBuilder(path=path).get_environ()
        started = time.process_time()
        for _ in range(int(requests)):
            body, status, _ = run_wsgi_app(app, dict(environ), buffered=True)
            assert status == "200 OK", (status, b"".join(body))
        flush()
        print(time.process_time() - started, flush=True)


if __name__ == "__main__":
    main()
