"""Loads that the ORM sends by itself: one finding for each relationship, column or class."""

from sqlalchemy import select
from sqlalchemy.orm import immediateload, joinedload, load_only

from cases.case import Database, Table, n_plus_one, redundant
from cases.models import AUTHORS, BOOKS, Author, Book, Editor, Loan, Magazine, Person, Publisher, Shelf

table = Table()
finds = table.finds


@finds(n_plus_one("Author.books", AUTHORS, ".options(selectinload(Author.books)) on the query for Author."))
def lazy_one_to_many(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            print(len(author.books))  # <-- here


@finds(n_plus_one("Book.author", AUTHORS, ".options(joinedload(Book.author)) on the query for Book."))
def lazy_many_to_one(db: Database) -> None:
    with db.session() as session:
        for book in session.scalars(select(Book)).all():
            print(book.author.name)  # <-- here


@finds(n_plus_one("Book.tags", BOOKS, "selectinload(Book.tags)"))
def lazy_many_to_many(db: Database) -> None:
    with db.session() as session:
        for book in session.scalars(select(Book)).all():
            print(len(book.tags))  # <-- here


@finds(n_plus_one("Book.tags", BOOKS, "selectinload(Book.tags)"))
def association_proxy(db: Database) -> None:
    with db.session() as session:
        for book in session.scalars(select(Book)).all():
            print(list(book.tag_names))  # <-- here


@finds(n_plus_one("Shelf.children", 12, "selectinload(Shelf.children)"))
def self_referential_children(db: Database) -> None:
    def walk(shelf: Shelf) -> None:
        for child in shelf.children:  # <-- here
            walk(child)

    with db.session() as session:
        walk(session.get_one(Shelf, 1))


@finds(n_plus_one("Shelf.parent", 6, "joinedload(Shelf.parent)", distinct=6))
def self_referential_parents(db: Database) -> None:
    with db.session() as session:
        shelf: Shelf | None = session.get_one(Shelf, 12)
        while shelf is not None and shelf.id != 6:
            shelf = shelf.parent  # <-- here


@finds(n_plus_one("Publisher.magazines", 6, "selectinload(Publisher.magazines)"))
def lazy_collection_with_backref(db: Database) -> None:
    with db.session() as session:
        for publisher in session.scalars(select(Publisher)).all():
            print(len(publisher.magazines))  # <-- here


@finds(n_plus_one("Magazine.publisher", 6, "joinedload(Magazine.publisher)"))
def lazy_backref(db: Database) -> None:
    with db.session() as session:
        for magazine in session.scalars(select(Magazine)).all():
            print(magazine.publisher.id)  # type: ignore[attr-defined] # <-- here


@finds(n_plus_one("Editor.desks", 6, "selectinload(Editor.desks)"))
def relationship_of_a_subclass(db: Database) -> None:
    with db.session() as session:
        for editor in session.scalars(select(Editor)).all():
            print(len(editor.desks))  # <-- here


@finds(n_plus_one("Person.publisher", 6, "joinedload(Person.publisher)"))
def relationship_of_a_base_class(db: Database) -> None:
    with db.session() as session:
        for editor in session.scalars(select(Editor)).all():
            print(editor.publisher.id)  # <-- here


@finds(n_plus_one("Editor.language", 6, "selectin_polymorphic(…, [Editor])"))
def columns_of_a_subclass(db: Database) -> None:
    with db.session() as session:
        for person in session.scalars(select(Person)).all():
            print(person.language)  # type: ignore[attr-defined] # <-- here


@finds(n_plus_one("Author.bio", AUTHORS, ".options(undefer(Author.bio)) on the query for Author."))
def deferred_column(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            print(author.bio)  # <-- here


@finds(n_plus_one("Author.born,died", AUTHORS, "undefer(Author.born), undefer(Author.died)"))
def deferred_group(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            print(author.born, author.died)  # <-- here


@finds(n_plus_one("Author.name", AUTHORS, "undefer(Author.name)"))
def column_left_out_by_load_only(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author).options(load_only(Author.id))).all():
            print(author.name)  # <-- here


@finds(n_plus_one("Author", AUTHORS, "6 expired instances of Author*expire_on_commit=False"))
def rows_expired_by_a_commit(db: Database) -> None:
    with db.session() as session:
        authors = session.scalars(select(Author)).all()
        session.commit()
        for author in authors:
            print(author.name)  # <-- here


@finds(n_plus_one("Loan.changed", 18, "with the write (eager_defaults=True in Loan.__mapper_args__)"))
def values_that_the_database_computes(db: Database) -> None:
    """The values of server defaults that an UPDATE has changed are read back, one row after the other."""
    with db.session() as session:
        loans = session.scalars(select(Loan)).all()
        for loan in loans:
            loan.state = "lost"
        session.flush()
        for loan in loans:
            print(loan.changed)  # <-- here


@finds(redundant("Author", 6, "Author was loaded 6 times for one instance"))
def one_row_refreshed_again_and_again(db: Database) -> None:
    with db.session() as session:
        author = session.get_one(Author, 1)
        for _ in range(6):
            session.refresh(author)  # <-- here


@finds(n_plus_one("Author", AUTHORS, "6 instances of Author were refreshed one by one"))
def rows_refreshed_one_by_one(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            session.refresh(author, ["name"])  # <-- here


@finds(n_plus_one("Author", AUTHORS, "6 expired instances of Author"))
def rows_expired_one_by_one(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            session.expire(author)
            print(author.name)  # <-- here


@finds(n_plus_one("Author.books", AUTHORS, "selectinload(Author.books)"))
def immediateload_of_each_parent(db: Database) -> None:
    """It looks eager, and sends a query for each parent all the same."""
    with db.session() as session:
        session.scalars(select(Author).options(immediateload(Author.books))).all()  # <-- here


@finds(n_plus_one("Book.tags", BOOKS, "selectinload(Book.tags)"))
def second_level_after_an_eager_first(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author).options(joinedload(Author.books))).unique():
            print([len(book.tags) for book in author.books])  # <-- here


@finds(n_plus_one("Author.books", 5, "selectinload(Author.books)"))
def parents_exactly_at_the_threshold(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author).limit(5)).all():
            print(len(author.books))  # <-- here


@finds()
def parents_one_below_the_threshold(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author).limit(4)).all():
            print(len(author.books))


@finds(n_plus_one("Author.books", AUTHORS, "selectinload(Author.books)"))
def relationship_read_at_two_lines(db: Database) -> None:
    """A relationship is one culprit, wherever it is read."""
    with db.session() as session:
        authors = session.scalars(select(Author)).all()
        for author in authors[:4]:
            print(len(author.books))  # <-- here
        print(len(authors[4].books), len(authors[5].books))
