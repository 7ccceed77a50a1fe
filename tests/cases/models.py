"""The library that the cases are about: one relationship of every flavour, and its rows."""

from datetime import datetime

from sqlalchemy import Column, Connection, Engine, FetchedValue, ForeignKey, String, Table, func
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    backref,
    mapped_column,
    relationship,
)

AUTHORS = 6
BOOKS = 12
"""Two of each author."""


class Base(AsyncAttrs, DeclarativeBase):
    """Strings have a length, which MariaDB wants."""

    type_annotation_map = {str: String(100)}  # noqa: RUF012 - the name and the form are SQLAlchemy's


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    bio: Mapped[str] = mapped_column(deferred=True)
    born: Mapped[str] = mapped_column(deferred=True, deferred_group="life")
    died: Mapped[str] = mapped_column(deferred=True, deferred_group="life")
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")
    loans: DynamicMapped["Loan"] = relationship(lazy="dynamic")
    notes: WriteOnlyMapped["Note"] = relationship(passive_deletes=True)


book_tag = Table(
    "book_tag",
    Base.metadata,
    Column("book_id", ForeignKey("book.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")
    tags: Mapped[list["Tag"]] = relationship(secondary=book_tag)
    tag_names: AssociationProxy[list[str]] = association_proxy("tags", "name")


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Loan(Base):
    __tablename__ = "loan"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    state: Mapped[str]
    changed: Mapped[datetime] = mapped_column(server_default=func.now(), server_onupdate=FetchedValue())


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id", ondelete="cascade"))


class Shelf(Base):
    """A tree: the shelves 2 to 6 stand on shelf 1; 7 to 12 are a chain, each on the one before."""

    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
    parent: Mapped["Shelf | None"] = relationship(back_populates="children", remote_side="Shelf.id")
    children: Mapped[list["Shelf"]] = relationship(back_populates="parent")


class Publisher(Base):
    __tablename__ = "publisher"
    id: Mapped[int] = mapped_column(primary_key=True)
    magazines = relationship("Magazine", backref=backref("publisher"))


class Magazine(Base):
    __tablename__ = "magazine"
    id: Mapped[int] = mapped_column(primary_key=True)
    publisher_id: Mapped[int] = mapped_column(ForeignKey("publisher.id"))


class Person(Base):
    """The base class of a joined-table inheritance."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    publisher_id: Mapped[int] = mapped_column(ForeignKey("publisher.id"))
    publisher: Mapped[Publisher] = relationship()
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 - see above


class Editor(Person):
    __tablename__ = "editor"
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    language: Mapped[str]
    desks: Mapped[list["Desk"]] = relationship()
    __mapper_args__ = {"polymorphic_identity": "editor"}  # noqa: RUF012 - see above


class Desk(Base):
    __tablename__ = "desk"
    id: Mapped[int] = mapped_column(primary_key=True)
    editor_id: Mapped[int] = mapped_column(ForeignKey("editor.id"))


def fill(bind: Engine | Connection) -> None:
    """Make every table anew, with the same rows."""
    Base.metadata.drop_all(bind)
    Base.metadata.create_all(bind)
    with Session(bind) as session:
        session.add_all([Tag(name=f"tag {n}") for n in range(1, 7)])
        session.add_all([Publisher(id=n, magazines=[Magazine()]) for n in range(1, 7)])
        session.flush()
        tags, publishers = session.query(Tag).all(), session.query(Publisher).all()
        for n in range(AUTHORS):
            author = Author(name=f"author {n}", bio="…", born="…", died="…")
            author.books = [Book(title=f"book {n}.{k}", tags=tags[:2]) for k in range(BOOKS // AUTHORS)]
            author.loans.add_all([Loan(state=state) for state in ("out", "late", "back")])
            author.notes.add_all([Note()])
            session.add_all([author, Editor(publisher=publishers[n], language="en", desks=[Desk()])])
        session.add_all([Shelf(id=n, parent_id=None if n == 1 else 1 if n < 7 else n - 1) for n in range(1, 13)])
        session.commit()
