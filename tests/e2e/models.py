"""Authors and their books: the data of the applications."""

from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

AUTHORS = 8
"""More than the N+1 threshold of 5."""


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def fill(url: str) -> None:
    """Create the tables, and authors with two books each."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(1, AUTHORS + 1):
            books = [Book(title=f"Book {number}.{volume}") for volume in (1, 2)]
            session.add(Author(name=f"Author {number}", books=books))
        session.commit()
    engine.dispose()
