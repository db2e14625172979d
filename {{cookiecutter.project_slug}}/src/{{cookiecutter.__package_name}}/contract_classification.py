"""What goes in and what comes out: the columns, their types, units and ranges.

This is one of the three files to change for your own project. Validation, the model's signature,
the numeric form of the data and the pages all derive from it. Raise ``version`` when a column is
added, removed or changes its meaning, run `make docs`, then train again.
"""

from .schema import Column, Contract

CONTRACT = Contract(
    version="1.0.0",
    columns=(
        Column(
            "SEPAL_LENGTH",
            "float",
            "Length of the sepal",
            "cm",
            minimum=0.1,
            maximum=15,
            example=5.3,
        ),
        Column(
            "SEPAL_WIDTH", "float", "Width of the sepal", "cm", minimum=0.1, maximum=10, example=6.7
        ),
        Column(
            "PETAL_LENGTH",
            "float",
            "Length of the petal",
            "cm",
            minimum=0.1,
            maximum=15,
            example=2.1,
        ),
        Column(
            "PETAL_WIDTH", "float", "Width of the petal", "cm", minimum=0.1, maximum=10, example=2.3
        ),
    ),
    target=Column(
        "SPECIES",
        "category",
        "0 setosa, 1 versicolor, 2 virginica",
        allowed=(0, 1, 2),
        example=2,
    ),
)
