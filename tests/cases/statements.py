"""Queries that the application sends itself, known by their fingerprint and their line."""

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from cases.case import THE_LINE, Database, Expected, Table, critical, n_plus_one, redundant, slow
from cases.models import AUTHORS, Author, Book, Loan, Note, Tag, book_tag
from querywatch.findings import Kind

table = Table()
finds = table.finds

IDS = range(1, AUTHORS + 1)


@finds(n_plus_one(THE_LINE, 6, "where(author.id.in_([…]))"))
def session_get_in_a_loop(db: Database) -> None:
    with db.session() as session:
        for n in IDS:
            session.get(Author, n)  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(loan.author_id.in_([…]))"))
def dynamic_collection_of_each_parent(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            author.loans.all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "in_([…])"))
def dynamic_collection_filtered_and_counted(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            author.loans.filter_by(state="late").count()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(note.author_id.in_([…]))"))
def write_only_collection_of_each_parent(db: Database) -> None:
    with db.session() as session:
        for author in session.scalars(select(Author)).all():
            session.scalars(author.notes.select()).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(book.author_id.in_([…]))"))
def orm_select_in_a_loop(db: Database) -> None:
    with db.session() as session:
        for n in IDS:
            session.scalars(select(Book).where(Book.author_id == n)).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(book.author_id.in_([…]))"))
def core_select_in_a_loop(db: Database) -> None:
    with db.engine.connect() as connection:
        for n in IDS:
            connection.execute(select(func.count()).where(Book.author_id == n)).scalar()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(author_id.in_([…]))"))
def text_with_parameters_in_a_loop(db: Database) -> None:
    with db.engine.connect() as connection:
        for n in IDS:
            connection.execute(text("SELECT title FROM book WHERE author_id = :id"), {"id": n}).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(author_id.in_([…]))"))
def text_with_literals_in_a_loop(db: Database) -> None:
    with db.engine.connect() as connection:
        for n in IDS:
            connection.execute(text(f"SELECT title FROM book WHERE author_id = {n}")).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(author_id.in_([…]))"))
def driver_sql_with_literals_in_a_loop(db: Database) -> None:
    with db.engine.connect() as connection:
        for n in IDS:
            connection.exec_driver_sql(f"SELECT title FROM book WHERE author_id = {n}").all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(author_id.in_([…]))"))
def driver_sql_with_parameters_in_a_loop(db: Database) -> None:
    mark = {"qmark": "?", "numeric_dollar": "$1"}.get(db.engine.dialect.paramstyle, "%s")
    with db.engine.connect() as connection:
        for n in IDS:
            connection.exec_driver_sql(f"SELECT title FROM book WHERE author_id = {mark}", (n,)).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(author_id.in_([…]))"))
def comments_that_differ(db: Database) -> None:
    """A comment with a trace id makes no other statement, and no other parameter."""
    with db.engine.connect() as connection:
        for n in IDS:
            statement = text(f"SELECT title /* trace {n * 7} */ FROM book WHERE author_id = :id")
            connection.execute(statement, {"id": n}).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(book.author_id.in_([…]))"))
def newest_row_of_each_parent(db: Database) -> None:
    """SQLite renders LIMIT 1 OFFSET 0; that is no pagination."""
    with db.session() as session:
        for n in IDS:
            newest = select(Book).where(Book.author_id == n).order_by(Book.id.desc()).limit(1)
            session.scalars(newest).first()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(book.author_id.in_([…]))"))
def query_first_of_each_parent(db: Database) -> None:
    with db.session() as session:
        for n in IDS:
            session.query(Book).filter_by(author_id=n).first()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(book.author_id.in_([…]))"))
def newest_row_before_a_key(db: Database) -> None:
    """A moving key with LIMIT 1 is a search for each parent, no keyset pagination."""
    with db.session() as session:
        for n in IDS:
            before = select(Book).where(Book.author_id == n, Book.id < 100 + n).order_by(Book.id.desc()).limit(1)
            session.scalars(before).first()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "in_()"))
def in_list_of_one_id(db: Database) -> None:
    with db.session() as session:
        for n in IDS:
            session.scalars(select(Tag).where(Tag.id.in_([n]))).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "in_()"))
def in_list_of_two_ids(db: Database) -> None:
    with db.session() as session:
        for n in IDS:
            session.scalars(select(Tag).where(Tag.id.in_([n, n + 1]))).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "in_()"))
def in_list_of_two_literals(db: Database) -> None:
    with db.engine.connect() as connection:
        for n in IDS:
            connection.execute(text(f"SELECT name FROM tag WHERE id IN ({n}, {n + 1})")).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(loan.author_id.in_([…]))"))
def constant_in_list_beside_the_parent(db: Database) -> None:
    """Three states in an IN list are a part of the condition, no batch."""
    with db.session() as session:
        for n in IDS:
            wanted = select(Loan).where(Loan.author_id == n, Loan.state.in_(["out", "late", "back"]))
            session.scalars(wanted).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(book.author_id.in_([…]))"))
def first_page_of_each_parent(db: Database) -> None:
    """The offset stays at 0, the parent changes."""
    with db.session() as session:
        for n in IDS:
            session.scalars(select(Book).where(Book.author_id == n).limit(10).offset(0)).all()  # <-- here


@finds(n_plus_one(THE_LINE, 6, "where(note.author_id.in_([…]))"))
def exists_for_each_row(db: Database) -> None:
    with db.session() as session:
        for n in IDS:
            session.scalar(select(select(Note).where(Note.author_id == n).exists()))  # <-- here


@finds(n_plus_one(THE_LINE, 5, "in_"))
def parameters_exactly_at_the_threshold(db: Database) -> None:
    with db.session() as session:
        for n in IDS[:5]:
            session.get(Author, n)  # <-- here


@finds()
def parameters_one_below_the_threshold(db: Database) -> None:
    with db.session() as session:
        for n in IDS[:4]:
            session.get(Author, n)


@finds()
def four_runs_here_and_one_there(db: Database) -> None:
    """The same statement at another line is another loop."""
    with db.session() as session:
        for n in IDS[:4]:
            session.get(Author, n)
        session.get(Author, 5)


@finds(redundant(THE_LINE, 6, "The same query ran 6 times with the same parameters: keep the result"))
def same_query_again_and_again(db: Database) -> None:
    with db.session() as session:
        for _ in range(6):
            session.scalars(select(Author).where(Author.id == 1)).one()  # <-- here


@finds(redundant(THE_LINE, 6, "keep the result"))
def same_query_without_parameters(db: Database) -> None:
    with db.engine.connect() as connection:
        for n in range(6):
            connection.execute(text(f"SELECT count(*) FROM author -- turn {n}\n")).scalar()  # <-- here


@finds(redundant(THE_LINE, 12, "ran 6 times", distinct=2))
def two_queries_again_and_again(db: Database) -> None:
    with db.session() as session:
        for n in range(12):
            session.scalars(select(Author).where(Author.id == n % 2 + 1)).one()  # <-- here


@finds(
    Expected(Kind.QUERY_VOLUME, "unknown route", 6, "6 queries of 6 kinds in one request (maximum 5)", 6, place=""),
    queries=6,
    max_queries_per_request=5,
)
def more_queries_than_the_maximum(db: Database) -> None:
    with db.session() as session:
        for entity in (Author, Book, Tag, Loan, Note, book_tag):
            session.execute(select(entity)).all()


@finds(queries=6, max_queries_per_request=6)
def as_many_queries_as_the_maximum(db: Database) -> None:
    with db.session() as session:
        for entity in (Author, Book, Tag, Loan, Note, book_tag):
            session.execute(select(entity)).all()


@finds(slow(THE_LINE, 1, "took * s: run EXPLAIN ANALYZE"), slow_query_threshold=0.02)
def slow_query(db: Database) -> None:
    with db.engine.connect() as connection:
        connection.execute(db.sleep(0.03)).all()  # <-- here


@finds(slow(THE_LINE, 2, "EXPLAIN ANALYZE", distinct=2), slow_query_threshold=0.02)
def slow_query_twice(db: Database) -> None:
    with db.engine.connect() as connection:
        for seconds in (0.03, 0.04):
            connection.execute(db.sleep(seconds)).all()  # <-- here


@finds(critical(slow(THE_LINE, 1, "EXPLAIN ANALYZE")), slow_query_threshold=0.01, critical_query_threshold=0.02)
def critical_query(db: Database) -> None:
    with db.engine.connect() as connection:
        connection.execute(db.sleep(0.03)).all()  # <-- here


@finds(slow(THE_LINE, 1, "EXPLAIN ANALYZE"), queries=1, slow_query_threshold=0.02)
def slow_query_that_fails(db: Database) -> None:
    with db.engine.connect() as connection:
        try:
            connection.execute(db.sleep(0.03, then=db.failure())).all()  # <-- here
        except DBAPIError:
            connection.rollback()


@finds(critical(n_plus_one(THE_LINE, 6, "in_")), slow_query_threshold=0.1)
def loop_that_wastes_more_than_a_slow_query(db: Database) -> None:
    """No run is slow, all of them together are."""
    with db.engine.connect() as connection:
        for n in IDS:
            connection.execute(db.sleep(0.02 + n / 1000)).all()  # <-- here
