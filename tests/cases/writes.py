"""Writes, row by row: one finding for each statement and line."""

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from cases.case import THE_LINE, Database, Table, n_plus_one, redundant
from cases.models import Author, Note, Publisher, Tag

table = Table()
finds = table.finds

NAMES = [f"new {n}" for n in range(6)]


@finds(n_plus_one(THE_LINE, 6, "session.add_all([…]) and one flush, or one insert(tag).values([…]) instead of 6"))
def insert_with_a_flush_for_each_row(db: Database) -> None:
    with db.session() as session:
        for name in NAMES:
            session.add(Tag(name=name))
            session.flush()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "session.add_all([…]) and one flush"))
def insert_with_a_commit_for_each_row(db: Database) -> None:
    with db.session() as session:
        for name in NAMES:
            session.add(Tag(name=name))
            session.commit()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "one flush for all*on tag instead of 6"))
def update_with_a_commit_for_each_row(db: Database) -> None:
    with db.session(expire_on_commit=False) as session:
        for tag in session.scalars(select(Tag)).all():
            tag.name += "!"
            session.commit()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "one delete(note).where(note.id.in_([…])) instead of 6"))
def delete_with_a_flush_for_each_row(db: Database) -> None:
    with db.session() as session:
        for note in session.scalars(select(Note)).all():
            session.delete(note)
            session.flush()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "one insert(tag).values([…]) instead of 6"))
def core_insert_one_by_one(db: Database) -> None:
    with db.engine.begin() as connection:
        for name in NAMES:
            connection.execute(insert(Tag).values(name=name))  # <-- here


@finds(n_plus_one(THE_LINE, 6, "one insert(tag).values([…]) instead of 6"))
def core_insert_of_one_row_lists(db: Database) -> None:
    """A list of one row is no batch."""
    with db.engine.begin() as connection:
        for name in NAMES:
            connection.execute(insert(Tag), [{"name": name}])  # <-- here


@finds(n_plus_one(THE_LINE, 6, "on tag instead of 6"))
def core_update_one_by_one(db: Database) -> None:
    with db.engine.begin() as connection:
        for n, name in enumerate(NAMES, 1):
            connection.execute(update(Tag).where(Tag.id == n).values(name=name))  # <-- here


@finds(n_plus_one(THE_LINE, 6, "one delete(note).where(note.id.in_([…]))"))
def core_delete_one_by_one(db: Database) -> None:
    with db.engine.begin() as connection:
        for n in range(1, 7):
            connection.execute(delete(Note).where(Note.id == n))  # <-- here


@finds(n_plus_one(THE_LINE, 6, "on tag instead of 6"))
def text_update_with_literals_one_by_one(db: Database) -> None:
    with db.engine.begin() as connection:
        for n, name in enumerate(NAMES, 1):
            connection.execute(text(f"UPDATE tag SET name = '{name}' WHERE id = {n}"))  # <-- here


@finds(redundant(THE_LINE, 6, "The same UPDATE ran 6 times with the same parameters: run it once"))
def same_update_again_and_again(db: Database) -> None:
    with db.engine.begin() as connection:
        for _ in NAMES:
            connection.execute(update(Tag).where(Tag.id == 1).values(name="same"))  # <-- here


@finds(n_plus_one(THE_LINE, 6, "add_all"))
def rows_that_the_database_refuses(db: Database) -> None:
    """Failed executions are queries too."""
    with db.session() as session:
        for n in range(6):
            try:
                with session.begin_nested():
                    session.add(Author(name=f"author {n}", bio="…", born="…", died="…"))
                    session.flush()  # <-- here
            except IntegrityError:
                continue


@finds(redundant(THE_LINE, 6, "with the same parameters"), queries=6)
def savepoint_retry(db: Database) -> None:
    """Six attempts at the same row, each in its savepoint, are the same write again and again."""
    with db.session() as session:
        for _ in range(6):
            try:
                with session.begin_nested():
                    session.execute(insert(Author).values(id=1, name="x", bio="…", born="…", died="…"))  # <-- here
            except IntegrityError:
                continue


@finds(
    n_plus_one(THE_LINE, 6, "one flush for all"),
    n_plus_one("Publisher.magazines", 6, "selectinload(Publisher.magazines)"),
)
def autoflush_between_lazy_loads(db: Database) -> None:
    """Each lazy load flushes the change before it: a write loop beside the N+1, at the same line."""
    with db.session() as session:
        tags = session.scalars(select(Tag)).all()
        for publisher, tag in zip(session.scalars(select(Publisher)).all(), tags, strict=True):
            tag.name += "!"
            print(len(publisher.magazines))  # <-- here
