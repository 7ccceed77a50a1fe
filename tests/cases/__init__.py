"""The table of cases: what is a finding, and what is none."""

from cases import aio, clean, flow, loads, statements, writes
from cases.case import Case

CASES: list[Case] = [case for module in (loads, statements, writes, flow, clean) for case in module.table.cases]
ASYNC_CASES: list[Case] = aio.table.cases
# PyMySQL can't send a query while it streams the rows of another.
_STREAMING = clean.rows_in_portions_with_selectinload
OF_DRIVERS: list[Case] = [
    case for module in (statements, writes, clean) for case in module.table.cases if case.scenario is not _STREAMING
]
"""What may depend on a driver: how it names its parameters, and how it sends many rows."""
