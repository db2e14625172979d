"""Customers, and which of them leave within a year."""

from datetime import date

from .schema import Column, Contract

CONTRACT = Contract(
    version="1.0.0",
    key=Column("CUSTOMER", "text"),
    columns=(
        Column("PLAN", "category", allowed=("basic", "family", "business")),
        Column("SINCE", "date", minimum=date(2010, 1, 1)),
        Column("AGE", "integer", minimum=16, maximum=120, nullable=True),
    ),
    target=Column("OUTCOME", "category", allowed=("stays", "leaves")),
)
