"""Orders: placing them, packing them, invoicing them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request
from sqlalchemy import Row, select
from sqlalchemy.orm import joinedload, selectinload

from bookshop.models import Book, Customer, Order, OrderLine, ShopSetting, db

api = Blueprint("orders", __name__)

NEWEST = select(Order).options(joinedload(Order.customer)).order_by(Order.id.desc()).limit(12)
LINES_TO_PACK = (
    select(OrderLine.order_id, OrderLine.book_id, OrderLine.quantity)
    .join(OrderLine.order)
    .where(Order.status == "open")
    .order_by(OrderLine.id)
    .limit(12)
)


@api.get("/")
def recent() -> Response:
    """The newest orders."""
    return jsonify([_order(order) for order in db.session.scalars(NEWEST)])


@api.get("/<int:order_id>")
def order(order_id: int) -> Response:
    """One order with its lines."""
    with_books = selectinload(Order.lines).joinedload(OrderLine.book)
    found = db.get_or_404(Order, order_id, options=(joinedload(Order.customer), with_books))
    lines = [{"title": line.book.title, "quantity": line.quantity} for line in found.lines]
    return jsonify(_order(found) | {"lines": lines})


@api.post("/")
def place() -> tuple[Response, int]:
    """Place an order: `{"customer_id": 1, "books": {"<book id>": <quantity>}}`."""
    customer_id, quantities = _wanted()
    # Locked in the order of their ids, so that two orders at once cannot wait for each other.
    customer = db.session.scalar(select(Customer).where(Customer.id == customer_id).with_for_update())
    in_order = select(Book).where(Book.id.in_(quantities)).order_by(Book.id).with_for_update()
    books = db.session.scalars(in_order).all()
    if customer is None or len(books) < len(quantities):
        abort(404, "no such customer or book")
    lines = [OrderLine(book_id=book.id, quantity=quantities[book.id], price_cents=book.price_cents) for book in books]
    total = sum(line.quantity * line.price_cents for line in lines)
    today = datetime.now(UTC).date()
    new = Order(customer_id=customer.id, placed_on=today, status="open", total_cents=total, lines=lines)
    db.session.add(new)
    for book in books:
        book.stock = max(0, book.stock - quantities[book.id])
    customer.spent_cents += total
    db.session.flush()
    answer = {"id": new.id, "total_cents": total}
    db.session.commit()
    return jsonify(answer), 201


@api.get("/packing-list")
def packing_list() -> Response:
    """Wrong: `session.get()` in a loop asks for the books one at a time."""
    titles = {}
    lines = db.session.execute(LINES_TO_PACK).all()
    for line in lines:
        book = db.session.get_one(Book, line.book_id)
        titles[book.id] = book.title
    return jsonify(_to_pack(lines, titles))


@api.get("/packing-list/fixed")
def packing_list_fixed() -> Response:
    """Right: one query with all ids."""
    lines = db.session.execute(LINES_TO_PACK).all()
    books = db.session.scalars(select(Book).where(Book.id.in_({line.book_id for line in lines})))
    titles = {book.id: book.title for book in books}
    return jsonify(_to_pack(lines, titles))


@api.get("/invoices")
def invoices() -> Response:
    """Wrong: the VAT rate is asked for again for every invoice, although it is one number."""
    found = db.session.scalars(NEWEST).all()
    return jsonify([_invoice(order, _vat_percent()) for order in found])


@api.get("/invoices/fixed")
def invoices_fixed() -> Response:
    """Right: asked once, kept."""
    found = db.session.scalars(NEWEST).all()
    vat_percent = _vat_percent()
    return jsonify([_invoice(order, vat_percent) for order in found])


def _vat_percent() -> int:
    return db.session.scalars(select(ShopSetting.value).where(ShopSetting.name == "vat_percent")).one()


def _wanted() -> tuple[int, dict[int, int]]:
    """The customer and the quantity by book id of a posted order; 400 when it is not one."""
    body = request.get_json()
    try:
        quantities = {int(book_id): int(quantity) for book_id, quantity in body["books"].items()}
        customer_id = int(body["customer_id"])
    except (AttributeError, KeyError, TypeError, ValueError):
        abort(400, "an order needs a customer_id and books")
    if not quantities or not all(0 < quantity < 100 for quantity in quantities.values()):
        abort(400, "an order needs one to 99 copies of each book")
    return customer_id, quantities


def _order(order: Order) -> dict[str, Any]:
    return {
        "id": order.id,
        "customer": order.customer.name,
        "placed_on": order.placed_on.isoformat(),
        "status": order.status,
        "total_cents": order.total_cents,
    }


def _invoice(order: Order, vat_percent: int) -> dict[str, Any]:
    vat_cents = order.total_cents * vat_percent // (100 + vat_percent)
    return _order(order) | {"vat_cents": vat_cents}


def _to_pack(lines: Sequence[Row[Any]], titles: dict[int, str]) -> list[dict[str, Any]]:
    return [{"order": line.order_id, "title": titles[line.book_id], "quantity": line.quantity} for line in lines]
