"""The table of cases: what is a finding, and what is none."""

from cases import loads, statements
from cases.case import Case

CASES: list[Case] = [*loads.table.cases, *statements.table.cases]
