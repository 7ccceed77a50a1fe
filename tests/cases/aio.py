"""The same through asyncio: the line is that of the coroutine, not of SQLAlchemy's bridge."""

import asyncio
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, selectinload

from cases.case import THE_LINE, Table, n_plus_one, redundant
from cases.models import Author, Book, Loan, Tag

table = Table()
finds = table.finds
clean = table.clean

BOOKS_OF_AUTHORS = n_plus_one("Author.books", 6, "selectinload(Author.books)")


@dataclass(frozen=True)
class AsyncDatabase:
    """What a coroutine works with: the rows of `models.fill` behind an engine."""

    engine: AsyncEngine

    def session(self) -> AsyncSession:
        return AsyncSession(self.engine)


@finds(BOOKS_OF_AUTHORS)
async def awaitable_attributes(db: AsyncDatabase) -> None:
    async with db.session() as session:
        for author in (await session.scalars(select(Author))).all():
            print(len(await author.awaitable_attrs.books))  # <-- here


@finds(BOOKS_OF_AUTHORS)
async def awaitable_attributes_in_a_coroutine_of_their_own(db: AsyncDatabase) -> None:
    async def count(author: Author) -> int:
        return len(await author.awaitable_attrs.books)  # <-- here

    async with db.session() as session:
        print([await count(author) for author in (await session.scalars(select(Author))).all()])


@finds(BOOKS_OF_AUTHORS)
async def run_sync(db: AsyncDatabase) -> None:
    def read(session: Session) -> None:
        for author in session.scalars(select(Author)).all():
            print(len(author.books))  # <-- here

    async with db.session() as session:
        await session.run_sync(read)


@finds(n_plus_one("Author", 6, "refreshed one by one*populate_existing"), BOOKS_OF_AUTHORS)
async def refresh_of_one_relationship(db: AsyncDatabase) -> None:
    """It sends two queries: for the row, and for the collection."""
    async with db.session() as session:
        for author in (await session.scalars(select(Author))).all():
            await session.refresh(author, ["books"])  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(author.id.in_([…]))"))
async def get_in_a_loop(db: AsyncDatabase) -> None:
    async with db.session() as session:
        for n in range(1, 7):
            await session.get(Author, n)  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(author_id.in_([…]))"))
async def text_in_a_loop(db: AsyncDatabase) -> None:
    async with db.engine.connect() as connection:
        for n in range(1, 7):
            await connection.execute(text("SELECT title FROM book WHERE author_id = :id"), {"id": n})  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(loan.author_id.in_([…]))"))
async def constant_in_list_beside_the_parent(db: AsyncDatabase) -> None:
    async with db.session() as session:
        for n in range(1, 7):
            wanted = select(Loan).where(Loan.author_id == n, Loan.state.in_(["out", "late", "back"]))
            await session.scalars(wanted)  # <-- here


@finds(n_plus_one(THE_LINE, 6, "in_()"))
async def in_list_of_one_id(db: AsyncDatabase) -> None:
    async with db.session() as session:
        for n in range(1, 7):
            await session.scalars(select(Tag).where(Tag.id.in_([n])))  # <-- here


@finds(n_plus_one(THE_LINE, 6, "add_all"))
async def insert_with_a_flush_for_each_row(db: AsyncDatabase) -> None:
    async with db.session() as session:
        for n in range(6):
            session.add(Tag(name=str(n)))
            await session.flush()  # <-- here


@finds(redundant(THE_LINE, 6, "keep the result"))
async def same_query_in_six_tasks(db: AsyncDatabase) -> None:
    """Tasks carry the context of whoever starts them, and so belong to its request."""

    async def read() -> None:
        async with db.session() as session:
            await session.scalars(select(Author).where(Author.id == 1))  # <-- here

    await asyncio.gather(*[read() for _ in range(6)])


@clean(queries=2)
async def selectinload_of_a_collection(db: AsyncDatabase) -> None:
    async with db.session() as session:
        for author in await session.scalars(select(Author).options(selectinload(Author.books))):
            print(len(author.books))


@clean(queries=1)
async def stream(db: AsyncDatabase) -> None:
    async with db.session() as session:
        async for book in await session.stream_scalars(select(Book), execution_options={"yield_per": 3}):
            print(book.title)


@clean(queries=4)
async def pages_by_two_keys_in_text(db: AsyncDatabase) -> None:
    """A name that stands twice is one numbered parameter for asyncpg."""
    after = "author_id > :author OR (author_id = :author AND id > :book)"
    page = text(f"SELECT author_id, id FROM book WHERE {after} ORDER BY author_id, id LIMIT :size")
    author, book = 0, 0
    async with db.engine.connect() as connection:
        for _ in range(4):
            rows = await connection.execute(page, {"author": author, "book": book, "size": 3})
            author, book = rows.all()[-1]


@clean(queries=4)
async def in_lists_of_three_beside_a_condition(db: AsyncDatabase) -> None:
    async with db.session() as session:
        for first in range(1, 13, 3):
            chosen = select(Book).where(Book.id.in_(range(first, first + 3)), Book.title != "x")
            await session.scalars(chosen)


@clean()
async def rows_in_one_flush(db: AsyncDatabase) -> None:
    async with db.session() as session:
        session.add_all([Tag(name=str(n)) for n in range(50)])
        await session.commit()
