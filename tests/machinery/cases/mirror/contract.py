"""One column of every type. In numeric form, the first allowed value of each category is 0."""

from datetime import date

from .schema import Column, Contract

CONTRACT = Contract(
    version="1.0.0",
    key=Column("ID", "text"),
    columns=(
        Column("PRICE", "float", minimum=-1000, maximum=1000),
        Column("AMOUNT", "float", nullable=True),
        Column("AGE", "integer", minimum=-5, maximum=120),
        Column("COUNT", "integer", nullable=True),
        Column("MEMBER", "boolean"),
        Column("PAID", "boolean", nullable=True),
        Column("CITY", "category", allowed=("Malmö", "São Paulo", "01", "1")),
        Column("GRADE", "category", allowed=(20, 1, -1), nullable=True),
        Column("SINCE", "date", minimum=date(1960, 1, 1), maximum=date(2030, 12, 31)),
        Column("UNTIL", "date", nullable=True),
    ),
    target=Column("TOTAL", "float"),
)
