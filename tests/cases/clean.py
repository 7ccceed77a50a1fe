"""What is no finding: batch loading, pagination, bulk writes, and what is no query of the application.

Two runs are enough for an N+1 here, unless a case says otherwise.
"""

from typing import Any

import pytest
from sqlalchemy import and_, func, insert, inspect, or_, select, text, tuple_, update
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import joinedload, raiseload, selectinload, subqueryload, undefer

from cases.case import Database, Table
from cases.models import AUTHORS, Author, Base, Book, Loan, Note, Publisher, Tag
from querywatch import sql

table = Table()
clean = table.clean


@clean(queries=2)
def selectinload_of_a_collection(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author).options(selectinload(Author.books))).all():
            print(len(author.books))


@clean(queries=3)
def selectinload_of_two_levels(db: Database) -> None:
    with db.session() as session:
        authors = select(Author).options(selectinload(Author.books).selectinload(Book.tags))
        for author in session.scalars(authors).all():
            print([len(book.tags) for book in author.books])


@clean()
def selectinload_in_chunks(db: Database) -> None:
    """SQLAlchemy asks for 500 parents at a time."""
    with db.session() as session:
        session.execute(insert(Publisher), [{"id": n} for n in range(1000, 2600)])
        for publisher in session.scalars(select(Publisher).options(selectinload(Publisher.magazines))).all():
            print(len(publisher.magazines))


@clean(queries=2)
def subqueryload_of_a_collection(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author).options(subqueryload(Author.books))).all():
            print(len(author.books))


@clean(queries=1)
def joinedload_of_a_collection(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author).options(joinedload(Author.books))).unique():
            print(len(author.books))


@clean(queries=1)
def undeferred_column(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author).options(undefer(Author.bio))).all():
            print(author.bio)


@clean(queries=1)
def raiseload_of_a_collection(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author).options(raiseload(Author.books))).all():
            with pytest.raises(InvalidRequestError):
                print(author.books)


@clean(queries=1)
def many_parents_that_are_loaded_already(db: Database) -> None:
    """A many-to-one whose target the session has sends nothing."""
    with db.session() as session:
        session.scalars(select(Book).options(joinedload(Book.author))).all()
        for book in session.identity_map.values():
            assert not isinstance(book, Book) or book.author is not None


@clean(queries=1)
def rows_in_portions(db: Database) -> None:
    with db.session() as session:
        for book in session.scalars(select(Book), execution_options={"yield_per": 3}):
            print(book.title)


@clean(queries=3)
def rows_in_portions_with_selectinload(db: Database) -> None:
    """One query for the parents, one for the collections of each portion of three."""
    with db.session() as session:
        authors = select(Author).options(selectinload(Author.books))
        for author in session.scalars(authors, execution_options={"yield_per": 3}):
            print(len(author.books))


@clean(queries=4)
def pages_by_offset(db: Database) -> None:
    with db.session() as session:
        for page in range(4):
            session.scalars(select(Book).order_by(Book.id).limit(3).offset(3 * page)).all()


@clean(queries=4)
def pages_by_offset_of_one_row(db: Database) -> None:
    with db.session() as session:
        for page in range(4):
            session.scalars(select(Book).order_by(Book.id).limit(1).offset(page)).all()


@clean(queries=4)
def pages_by_offset_in_text(db: Database) -> None:
    with db.engine.connect() as connection:
        for page in range(4):
            connection.execute(text(f"SELECT id FROM book ORDER BY id LIMIT 3 OFFSET {3 * page}")).all()


@clean(queries=4)
def pages_by_key(db: Database) -> None:
    last = 0
    with db.session() as session:
        for _ in range(4):
            last = session.scalars(select(Book.id).where(Book.id > last).order_by(Book.id).limit(3)).all()[-1]


@clean(queries=4)
def pages_by_two_keys(db: Database) -> None:
    last: Any = (0, 0)
    with db.session() as session:
        for _ in range(4):
            key = tuple_(Book.author_id, Book.id)
            page = select(Book.author_id, Book.id).where(key > last).order_by(Book.author_id, Book.id).limit(3)
            last = tuple(session.execute(page).all()[-1])


@clean(queries=4)
def pages_by_two_keys_spelt_out(db: Database) -> None:
    author, book = 0, 0
    with db.session() as session:
        for _ in range(4):
            after = or_(Book.author_id > author, and_(Book.author_id == author, Book.id > book))
            page = select(Book.author_id, Book.id).where(after).order_by(Book.author_id, Book.id).limit(3)
            author, book = session.execute(page).all()[-1]


@clean(queries=4)
def pages_by_two_keys_in_text(db: Database) -> None:
    """A name that stands twice is one value, or two, as the driver has it."""
    after = "author_id > :author OR (author_id = :author AND id > :book)"
    page = text(f"SELECT author_id, id FROM book WHERE {after} ORDER BY author_id, id LIMIT :size")
    author, book = 0, 0
    with db.engine.connect() as connection:
        for _ in range(4):
            author, book = connection.execute(page, {"author": author, "book": book, "size": 3}).all()[-1]


@clean(queries=4)
def pages_by_key_backwards(db: Database) -> None:
    last = 1000
    with db.session() as session:
        for _ in range(4):
            page = select(Book.id).where(Book.id < last).order_by(Book.id.desc()).limit(3)
            last = session.scalars(page).all()[-1]


@clean(queries=4)
def in_lists_of_three(db: Database) -> None:
    with db.session() as session:
        for first in range(1, 13, 3):
            session.scalars(select(Book).where(Book.id.in_(range(first, first + 3)))).all()


@clean(queries=4)
def in_lists_of_three_beside_a_condition(db: Database) -> None:
    """The values come in another order than on paper: drivers with numbered parameters put IN lists last."""
    with db.session() as session:
        for first in range(1, 13, 3):
            chosen = select(Book).where(Book.id.in_(range(first, first + 3)), Book.title != "x")
            session.scalars(chosen).all()


@clean(queries=4)
def in_lists_of_three_literals(db: Database) -> None:
    with db.engine.connect() as connection:
        for n in range(1, 13, 3):
            connection.execute(text(f"SELECT title FROM book WHERE id IN ({n}, {n + 1}, {n + 2})")).all()


@clean(queries=3)
def in_lists_of_thousands_of_literals(db: Database) -> None:
    """A text this long is not analysed as a whole."""
    with db.engine.connect() as connection:
        for first in range(0, 15_000, 5_000):
            listed = ", ".join(map(str, range(first, first + 5_000)))
            connection.execute(text(f"SELECT title FROM book WHERE id IN ({listed})")).all()


@clean()
def executemany(db: Database) -> None:
    with db.engine.begin() as connection:
        connection.execute(text("INSERT INTO tag (name) VALUES (:name)"), [{"name": str(n)} for n in range(50)])


@clean()
def rows_in_one_flush(db: Database) -> None:
    with db.session() as session:
        session.add_all([Tag(name=str(n)) for n in range(50)])
        session.commit()


@clean()
def parents_and_children_in_one_flush(db: Database) -> None:
    with db.session() as session:
        session.add_all([Author(name=f"new {n}", bio="", born="", died="", books=[Book(title="x")]) for n in range(9)])
        session.commit()


@clean()
def updates_in_one_flush(db: Database) -> None:
    with db.session() as session:
        for tag in session.scalars(select(Tag)).all():
            tag.name += "!"
        session.commit()


@clean(queries=7)
def updates_with_an_expression_in_one_flush(db: Database) -> None:
    """The ORM sends one UPDATE for each row, and they still are one flush."""
    with db.session() as session:
        for tag in session.scalars(select(Tag)).all():
            tag.name = func.upper(Tag.name)
        session.flush()


@clean()
def deletes_in_one_flush(db: Database) -> None:
    with db.session() as session:
        for note in session.scalars(select(Note)).all():
            session.delete(note)
        session.commit()


@clean()
def inserts_in_chunks(db: Database) -> None:
    with db.session() as session:
        for chunk in range(6):
            session.execute(insert(Tag), [{"name": f"{chunk}.{n}"} for n in range(10)])


@clean()
def inserts_of_many_values_in_chunks(db: Database) -> None:
    """One INSERT with several rows in its VALUES is what the advice asks for."""
    with db.engine.begin() as connection:
        for chunk in range(6):
            connection.execute(insert(Tag).values([{"name": f"{chunk}.{n}"} for n in range(10)]))


@clean()
def updates_in_chunks(db: Database) -> None:
    with db.session() as session:
        for chunk in range(3):
            session.execute(update(Tag), [{"id": n, "name": f"{chunk}.{n}"} for n in range(1, 7)])


@clean(queries=0)
def reflection(db: Database) -> None:
    """Looking at the schema is no query of the application."""
    for _ in range(3):
        inspector = inspect(db.engine)
        for name in inspector.get_table_names():
            inspector.get_columns(name)
            inspector.get_foreign_keys(name)


@clean(queries=0)
def tables_that_exist(db: Database) -> None:
    for _ in range(3):
        Base.metadata.create_all(db.engine)


@clean(queries=1)
def savepoints(db: Database) -> None:
    with db.session() as session:
        session.scalar(select(func.count()).select_from(Tag))
        for _ in range(6):
            with session.begin_nested():
                session.connection()


@clean(ignore=("Author.books",))
def ignored_by_relationship(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            print(len(author.books))


@clean(ignore=(sql.analyse("SELECT name FROM tag WHERE id = 0").fingerprint,))
def ignored_by_fingerprint(db: Database) -> None:
    with db.engine.connect() as connection:
        for n in range(AUTHORS):
            connection.execute(text(f"SELECT name FROM tag WHERE id = {n}")).all()


@clean(ignore=("*@cases/clean.py:*",))
def ignored_by_file(db: Database) -> None:
    with db.session() as session:
        for n in range(AUTHORS):
            session.get(Loan, n)
