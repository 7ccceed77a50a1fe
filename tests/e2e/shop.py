"""A Flask application on plain SQLAlchemy, as a user would write it: it knows nothing of QueryWatch.

`python e2e/shop.py PORT` serves it; `DATABASE_URL` names a database that `models.fill` has filled.
"""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, g, make_response, request, send_file, stream_with_context
from sqlalchemy import create_engine, literal, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from e2e.models import AUTHORS, Author

app = Flask(__name__)
engine = create_engine(os.environ["DATABASE_URL"], hide_parameters=bool(os.environ.get("HIDE_PARAMETERS")))
early = Blueprint("early", __name__, url_prefix="/early/<int:number>")
around = Blueprint("around", __name__, url_prefix="/around")
meeting = threading.Barrier(2, timeout=10)


def names(session: Session) -> list[str]:
    """One query for each author: an N+1 of the key `SQL`."""
    return [session.execute(select(Author.name).where(Author.id == n)).scalar_one() for n in range(1, AUTHORS + 1)]


def titles(session: Session) -> str:
    """One lazy load for each author: an N+1 of the key `REL`."""
    return ",".join(book.title for author in session.scalars(select(Author)) for book in author.books)


@app.get("/authors")
def authors() -> str:
    with Session(engine) as session:
        return titles(session)


@app.get("/authors/fixed")
def authors_fixed() -> str:
    with Session(engine) as session:
        found = session.scalars(select(Author).options(selectinload(Author.books)))
        return ",".join(book.title for author in found for book in author.books)


@app.get("/authors/<int:number>")
def author(number: int) -> str:
    with Session(engine) as session:
        return session.get_one(Author, number).name


@early.url_value_preprocessor
def look_up(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    with Session(engine) as session:
        g.names = names(session)


@early.get("/")
def looked_up(number: int) -> str:
    return str(g.names[number])


@around.before_request
def before() -> None:
    g.session = Session(engine)
    g.session.execute(text("SELECT 'before'"))


@around.after_request
def after(response: Response) -> Response:
    g.session.execute(text("SELECT 'after'"))
    return response


@around.teardown_request
def teardown(_error: BaseException | None) -> None:
    names(g.session)
    g.session.close()


@around.get("/")
def in_the_middle() -> str:
    g.session.execute(text("SELECT 'view'"))
    return "around"


def stream() -> Iterator[str]:
    with Session(engine) as session:
        for number in range(1, AUTHORS + 1):
            yield session.execute(select(Author.name).where(Author.id == number)).scalar_one()


@app.get("/stream")
def stream_bare() -> Response:
    return Response(stream())


@app.get("/stream/context")
def stream_in_context() -> Response:
    return Response(stream_with_context(stream()))


@app.get("/fails")
def fails() -> str:
    with Session(engine) as session:
        titles(session)
    raise RuntimeError("the application's own error")


@app.get("/not-modified")
def not_modified() -> Response:
    with Session(engine) as session:
        response = make_response(titles(session))
    response.set_etag("same")
    response.make_conditional(request)
    return response


@app.get("/file")
def file() -> Response:
    with Session(engine) as session:
        titles(session)
    return send_file(Path(__file__).with_name("models.py"), mimetype="text/plain")


@app.get("/together/<name>")
def together(name: str) -> str:
    """Every query of one request lies between queries of another one."""
    with Session(engine) as session:
        found = []
        for number in range(1, AUTHORS + 1):
            meeting.wait()
            found.append(session.get_one(Author, number).name)
        return f"{name}:{len(found)}"


def secret() -> str:
    """A value that belongs to the user, sent in a header, of which OpenTelemetry records nothing."""
    return request.headers["X-Value"]


@app.get("/secret")
def secret_parameters() -> str:
    with Session(engine) as session:
        for number in range(AUTHORS):
            session.execute(select(Author.id).where(Author.name == f"{secret()}{number}")).all()
            session.execute(select(Author.id).where(Author.name.in_([secret(), "other"]))).all()
    return "told nobody"


@app.get("/secret/text")
def secret_text() -> str:
    with Session(engine) as session:
        for _ in range(AUTHORS):
            session.execute(text("SELECT id FROM authors WHERE name = :name"), {"name": secret()})
    return "told nobody"


@app.get("/secret/literal")
def secret_literal() -> str:
    with engine.connect() as connection:
        for number in range(AUTHORS):
            connection.execute(text(f"SELECT id FROM authors WHERE name = '{secret()}{number}' /* {secret()} */"))
            connection.execute(select(Author.id).where(Author.name == literal(secret(), literal_execute=True)))
    return "told nobody"


@app.get("/secret/driver")
def secret_driver() -> str:
    mark = "?" if engine.dialect.paramstyle == "qmark" else "%s"
    with engine.connect() as connection:
        for number in range(AUTHORS):
            connection.exec_driver_sql(f"SELECT id FROM authors WHERE name = {mark}", (f"{secret()}{number}",))
            connection.exec_driver_sql(f"SELECT id FROM authors WHERE name = '{secret()}'")
    return "told nobody"


@app.get("/secret/caught")
def secret_caught() -> tuple[str, int]:
    with Session(engine) as session:
        session.add_all([Author(name=secret()), Author(name=secret())])
        try:
            session.commit()
        except IntegrityError:
            return "taken", 409
    return "created", 201


@app.get("/secret/uncaught")
def secret_uncaught() -> str:
    with Session(engine) as session:
        session.add_all([Author(name=secret()), Author(name=secret())])
        session.commit()
    return "created"


@app.get("/engine/<int:dispose>")
def engine_of_its_own(dispose: int) -> str:
    own = create_engine(os.environ["DATABASE_URL"])
    with Session(own) as session:
        found = titles(session)
    if dispose:
        own.dispose()
    return found


app.register_blueprint(early)
app.register_blueprint(around)

if __name__ == "__main__":
    app.run(port=int(sys.argv[1]))
