"""How many are sold tomorrow: whole numbers, and no key."""

from .schema import Column, Contract

CONTRACT = Contract(
    version="2.0.0",
    columns=(
        Column("PRICE", "float", "Price", "€", minimum=0.01, example=9.9),
        Column("WEEKDAY", "integer", "0 is Monday", minimum=0, maximum=6, example=5),
        Column("HOLIDAY", "boolean", "Whether shops are closed", nullable=True),
    ),
    target=Column("SOLD", "integer", "Sold on that day", "pieces"),
)
