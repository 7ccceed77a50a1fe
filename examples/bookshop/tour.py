"""Every route of the bookshop once, in an order to read, with what is wrong with it. Standard library only.

`TOUR` are the usual routes, `POOL_TOUR` those that get connection pools into trouble.
"""

from dataclasses import dataclass

Body = dict[str, object]


@dataclass(frozen=True)
class Visit:
    """One request.

    `expects` are the kinds of finding that it must give (a query slow enough to make its whole request slow may add
    `slow_request`); `twin` is the path that answers the same bytes without any.
    """

    title: str
    method: str
    path: str
    json: Body | None = None
    expects: tuple[str, ...] = ()
    twin: str | None = None


def _pair(title: str, path: str, kind: str, method: str = "GET", json: Body | None = None) -> tuple[Visit, ...]:
    """A route and its fixed twin, which stands at `<path>/fixed`."""
    twin = path.rstrip("/") + "/fixed"
    return Visit(title, method, path, json, (kind,), twin), Visit(f"{title} (fixed)", method, twin, json)


_API = "/api/client"

TOUR: tuple[Visit, ...] = (
    # An ordinary visit.
    Visit("a page of the catalogue", "GET", f"{_API}/catalogue/books"),
    Visit("one book", "GET", f"{_API}/catalogue/books/17"),
    Visit("reviews of a book", "GET", f"{_API}/reviews/book/17"),
    Visit("place an order", "POST", f"{_API}/orders/", {"customer_id": 7, "books": {"17": 1, "42": 2}}),
    Visit("the newest orders", "GET", f"{_API}/orders/"),
    Visit("one order", "GET", f"{_API}/orders/4711"),
    Visit("a page of customers", "GET", f"{_API}/customers/"),
    Visit("one customer", "GET", f"{_API}/customers/7"),
    Visit("bestsellers", "GET", f"{_API}/reports/bestsellers"),
    # One query per row, in each of its shapes.
    *_pair("authors with their books: lazy collection", f"{_API}/catalogue/authors", "n_plus_one"),
    *_pair("latest reviews: lazy many-to-one", f"{_API}/reviews/latest", "n_plus_one"),
    *_pair("shop window: lazy load in the template", "/", "n_plus_one"),
    *_pair("biographies: deferred column", f"{_API}/catalogue/biographies", "n_plus_one"),
    *_pair("newsletter: expired rows", f"{_API}/customers/newsletter", "n_plus_one", "POST", {"city": "Leipzig"}),
    *_pair("packing list: get() in a loop", f"{_API}/orders/packing-list", "n_plus_one"),
    *_pair("order counts: Core query in a loop", f"{_API}/customers/order-counts", "n_plus_one"),
    *_pair("recount of reviews: write in a loop", f"{_API}/reviews/recount", "n_plus_one", "POST"),
    # Too many queries, or too slow ones.
    *_pair("invoices: the same question again", f"{_API}/orders/invoices", "redundant_query"),
    *_pair("dashboard: a query per figure", f"{_API}/reports/dashboard", "query_volume"),
    *_pair("order sizes: slow query", f"{_API}/reports/order-sizes", "slow_query"),
    *_pair("running revenue: critical query", f"{_API}/reports/running-revenue", "slow_query"),
    *_pair("bought together: slow request", f"{_API}/reports/bought-together", "slow_request"),
)

_COUNTED: Body = {"counted": {"17": 3, "29": 1, "42": 0}}

#: The back office, which is there only with `BOOKSHOP_POOL_TROUBLE`: what a connection pool suffers from. In this order
#: the second and third stop come upon a pool that has lost a connection to the first.
POOL_TOUR: tuple[Visit, ...] = (
    *_pair("stocktake: connection never given back", "/api/office/stocktake", "connection_leak", "POST", _COUNTED),
    *_pair("price lists: connections held while printing", "/api/office/price-lists", "pool_saturation"),
    *_pair("audit: the whole pool used up", "/api/office/audit", "pool_saturation"),
)
