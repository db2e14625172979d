"""Which of ten depots sends a parcel: an integer key, and a column of every type."""

from datetime import date

from .schema import Column, Contract

DEPOTS = ("Köln", "Łódź", "Porto", "São Paulo", "x10", "x11", "x12", "x13", "x14", "x15")
CONTRACT = Contract(
    version="3.1.0",
    key=Column("PARCEL", "integer", "Number of the parcel"),
    columns=(
        Column("SENT", "date", "Day", minimum=date(2020, 1, 1), maximum=date(2030, 12, 31)),
        Column("EXPRESS", "boolean", "Whether it is urgent"),
        Column("ZONE", "category", "Zone of the address", allowed=(3, 7, 11)),
        Column("WEIGHT", "float", "Weight", "kg", minimum=0, maximum=50, nullable=True),
        Column("DISTANCE", "float", "To the address", "km"),
        Column("SIZE", "category", "Size class", allowed=("S", "M", "L"), nullable=True),
    ),
    target=Column("DEPOT", "category", "Where it starts", allowed=DEPOTS),
)
