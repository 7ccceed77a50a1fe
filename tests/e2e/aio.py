"""FastAPI on an asynchronous engine, with a Flask application mounted in it: `uvicorn e2e.aio:app`."""

import os
from collections.abc import AsyncIterator
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from flask import Flask
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from e2e.models import AUTHORS, Author

app = FastAPI()
engine = create_async_engine(os.environ["ASYNC_DATABASE_URL"])
mounted = Flask("mounted")
blocking = create_engine(os.environ["DATABASE_URL"])


@app.get("/authors")
async def authors() -> list[str]:
    async with AsyncSession(engine) as session:
        numbers = range(1, AUTHORS + 1)
        return [(await session.execute(select(Author.name).where(Author.id == n))).scalar_one() for n in numbers]


@app.get("/lazy/{kind}")
async def lazy(kind: str) -> list[str]:
    def titles(session: Session) -> list[str]:
        return [book.title for author in session.scalars(select(Author)) for book in author.books]

    async with AsyncSession(engine) as session:
        return await session.run_sync(titles)


@app.get("/stream/{kind}")
async def stream(kind: str) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        async with AsyncSession(engine) as session:
            for number in range(1, AUTHORS + 1):
                found = await session.execute(select(Author.name).where(Author.id == number))
                yield found.scalar_one()

    return StreamingResponse(body(), media_type="text/plain")


@mounted.get("/shelf/<int:number>")
def shelf(number: int) -> str:
    with Session(blocking) as session:
        return ",".join(book.title for author in session.scalars(select(Author)) for book in author.books)


old: Any = WSGIMiddleware(cast("Any", mounted))
app.mount("/old", old)
