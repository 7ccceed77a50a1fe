"""Where the queries come from: templates, generators, other sessions, other threads."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from sqlalchemy import select

from cases.case import THE_LINE, Database, Table, n_plus_one
from cases.models import Author

table = Table()
finds = table.finds

BOOKS_OF_AUTHORS = n_plus_one("Author.books", 6, "selectinload(Author.books)")
TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


@finds(n_plus_one("Author.books", 6, "selectinload(Author.books)", place="cases/templates/authors.html:4"))
def template(db: Database) -> None:
    """The finding points into the template, not at the call that renders it."""
    with db.session() as session:
        TEMPLATES.get_template("authors.html").render(authors=session.scalars(select(Author)).all())


@finds(n_plus_one("Author.books", 6, "selectinload(Author.books)", place="cases/templates/macros.html:5"))
def macro_of_another_template(db: Database) -> None:
    with db.session() as session:
        TEMPLATES.get_template("page.html").render(authors=session.scalars(select(Author)).all())


@finds(BOOKS_OF_AUTHORS)
def generator_that_is_read_later(db: Database) -> None:
    def lines(authors: list[Author]) -> Iterator[str]:
        for author in authors:
            yield f"{author.name}: {len(author.books)}"  # <-- here

    with db.session() as session:
        print(list(lines(list(session.scalars(select(Author)).all()))))


@finds(BOOKS_OF_AUTHORS)
def serialiser(db: Database) -> None:
    fields: dict[str, Callable[[Author], object]] = {
        "name": lambda author: author.name,
        "books": lambda author: len(author.books),  # <-- here
    }
    with db.session() as session:
        print([{name: field(author) for name, field in fields.items()} for author in session.scalars(select(Author))])


@finds(BOOKS_OF_AUTHORS)
def savepoints_between(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            with session.begin_nested():
                print(len(author.books))  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(author.id.in_([…]))"), BOOKS_OF_AUTHORS)
def nested_sessions(db: Database) -> None:
    """Each author is read in a session of its own, and its books in that one."""
    with db.session() as outer:
        for name in outer.scalars(select(Author.id)).all():
            with db.session() as inner:
                print(len(inner.get_one(Author, name).books))  # <-- here


@finds(BOOKS_OF_AUTHORS)
def turns_of_a_loop_far_apart(db: Database) -> None:
    """Other queries between the runs change nothing."""
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            session.connection().exec_driver_sql(f"SELECT {author.id} AS a{author.id}")
            print(len(author.books))  # <-- here


@finds(BOOKS_OF_AUTHORS, queries=7)
def thread_with_the_context(db: Database) -> None:
    def read() -> None:
        with db.session() as session:
            for author in session.scalars(select(Author)).all():
                print(len(author.books))  # <-- here

    in_thread(contextvars.copy_context().run, read)


@finds(queries=0)
def thread_without_the_context(db: Database) -> None:
    def read() -> None:
        with db.session() as session:
            for author in session.scalars(select(Author)).all():
                print(len(author.books))

    in_thread(read)


@finds(n_plus_one(THE_LINE, 6, "where(author.id.in_([…]))"), queries=6)
def threads_for_single_rows(db: Database) -> None:
    """A loop that is spread over threads is still one."""

    def read(author: int) -> None:
        with db.session() as session:
            session.get_one(Author, author)  # <-- here

    for n in range(1, 7):
        in_thread(contextvars.copy_context().run, read, n)


def in_thread(function: Callable[..., object], *arguments: object) -> None:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()
