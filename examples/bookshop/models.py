"""The bookshop's tables. Money is in cents, dates are calendar days."""

from __future__ import annotations

from datetime import date

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, ForeignKey, String, Table, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """Base of all models."""


db = SQLAlchemy(model_class=Base)

book_genres = Table(
    "book_genres",
    Base.metadata,
    Column("book_id", ForeignKey("books.id"), primary_key=True),
    Column("genre_id", ForeignKey("genres.id"), primary_key=True),
)


class ShopSetting(Base):
    """One named setting of the shop, such as its VAT rate."""

    __tablename__ = "shop_settings"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[int]


class Publisher(Base):
    """A publishing house."""

    __tablename__ = "publishers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))


class Genre(Base):
    """A shelf of the shop; a book can stand on several."""

    __tablename__ = "genres"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class Author(Base):
    """A writer; the long biography is loaded only when it is asked for."""

    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    country: Mapped[str] = mapped_column(String(40))
    bio: Mapped[str] = mapped_column(Text, deferred=True)

    books: Mapped[list[Book]] = relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    """A title in the catalogue, with its stock and the number of its reviews."""

    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True)
    isbn: Mapped[str] = mapped_column(String(13), unique=True)
    title: Mapped[str] = mapped_column(String(120))
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"), index=True)
    publisher_id: Mapped[int] = mapped_column(ForeignKey("publishers.id"), index=True)
    price_cents: Mapped[int]
    pages: Mapped[int]
    published_on: Mapped[date]
    stock: Mapped[int]
    review_count: Mapped[int] = mapped_column(default=0)

    author: Mapped[Author] = relationship(back_populates="books")
    publisher: Mapped[Publisher] = relationship()
    genres: Mapped[list[Genre]] = relationship(secondary=book_genres, order_by=Genre.id)


class Customer(Base):
    """A registered customer; `spent_cents` is kept up to date by every order."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(120), unique=True)
    city: Mapped[str] = mapped_column(String(40))
    joined_on: Mapped[date]
    newsletter: Mapped[bool]
    spent_cents: Mapped[int] = mapped_column(default=0)


class Order(Base):
    """An order: `open`, `shipped`, `delivered` or `cancelled`."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    placed_on: Mapped[date]
    status: Mapped[str] = mapped_column(String(12))
    total_cents: Mapped[int]

    customer: Mapped[Customer] = relationship()
    lines: Mapped[list[OrderLine]] = relationship(back_populates="order", order_by="OrderLine.id")


class OrderLine(Base):
    """One title of an order, at the price of that day."""

    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("books.id"), index=True)
    quantity: Mapped[int]
    price_cents: Mapped[int]

    order: Mapped[Order] = relationship(back_populates="lines")
    book: Mapped[Book] = relationship()


class Review(Base):
    """A customer's rating of a book, one to five stars."""

    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("books.id"), index=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    rating: Mapped[int]
    headline: Mapped[str] = mapped_column(String(120))
    body: Mapped[str] = mapped_column(Text)
    helpful: Mapped[int]
    written_on: Mapped[date]

    book: Mapped[Book] = relationship()
    customer: Mapped[Customer] = relationship()
