"""The table of cases: what is a finding, and what is none."""

from cases import clean, flow, loads, statements, writes
from cases.case import Case

CASES: list[Case] = [case for module in (loads, statements, writes, flow, clean) for case in module.table.cases]
