"""Customers: who they are, what they spend, which letters they get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request
from sqlalchemy import func, select

from bookshop.models import Customer, Order, db

api = Blueprint("customers", __name__)

PAGE = 12
CUSTOMERS = select(Customer).order_by(Customer.id).limit(PAGE)


def _offset() -> int:
    return PAGE * (max(1, request.args.get("page", 1, type=int)) - 1)


@api.get("/")
def customers() -> Response:
    """A page of customers."""
    return jsonify([_customer(customer) for customer in db.session.scalars(CUSTOMERS.offset(_offset()))])


@api.get("/<int:customer_id>")
def customer(customer_id: int) -> Response:
    """One customer."""
    return jsonify(_customer(db.get_or_404(Customer, customer_id)))


@api.get("/order-counts")
def order_counts() -> Response:
    """Wrong: one aggregate per customer, written out as a Core query in a loop."""
    found = db.session.scalars(CUSTOMERS.offset(_offset())).all()
    counts = {}
    for customer in found:
        query = select(func.count()).select_from(Order).where(Order.customer_id == customer.id)
        counts[customer.id] = db.session.scalars(query).one()
    return jsonify(_with_counts(found, counts))


@api.get("/order-counts/fixed")
def order_counts_fixed() -> Response:
    """Right: the database groups, in one query."""
    found = db.session.scalars(CUSTOMERS.offset(_offset())).all()
    of_page = Order.customer_id.in_([customer.id for customer in found])
    query = select(Order.customer_id, func.count().label("orders")).where(of_page).group_by(Order.customer_id)
    counts = {row.customer_id: row.orders for row in db.session.execute(query)}
    return jsonify(_with_counts(found, counts))


@api.post("/newsletter")
def newsletter() -> Response:
    """Wrong: the commit expires every object, and the answer then reads each one again."""
    found = _customers_of_city()
    for customer in found:
        customer.newsletter = True
    db.session.commit()
    return jsonify([_customer(customer) for customer in found])


@api.post("/newsletter/fixed")
def newsletter_fixed() -> Response:
    """Right: the answer is made before the commit."""
    found = _customers_of_city()
    for customer in found:
        customer.newsletter = True
    answer = jsonify([_customer(customer) for customer in found])
    db.session.commit()
    return answer


def _customers_of_city() -> Sequence[Customer]:
    """The longest-standing customers of the posted `{"city": …}`; 400 without one."""
    match request.get_json():
        case {"city": str(city)}:
            pass
        case _:
            abort(400, "a city is needed")
    return db.session.scalars(CUSTOMERS.where(Customer.city == city)).all()


def _customer(customer: Customer) -> dict[str, Any]:
    return {
        "id": customer.id,
        "name": customer.name,
        "city": customer.city,
        "joined_on": customer.joined_on.isoformat(),
        "newsletter": customer.newsletter,
    }


def _with_counts(customers: Sequence[Customer], counts: dict[int, int]) -> list[dict[str, Any]]:
    return [{"name": customer.name, "orders": counts.get(customer.id, 0)} for customer in customers]
