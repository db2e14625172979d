"""What goes in and what comes out: the columns, their types, units and ranges.

This is one of the three files to change for your own project. Validation, the model's signature,
the numeric form of the data and the pages all derive from it. Raise ``version`` when a column is
added, removed or changes its meaning, run `make docs`, then train again.
"""

from .schema import Column, Contract

CONTRACT = Contract(
    version="1.0.0",
    columns=(
        Column("AGE", "integer", "Age", "years", minimum=18, maximum=120, example=59),
        Column("SEX", "category", "Sex, as the study coded it", allowed=(1, 2), example=2),
        Column("BMI", "float", "Body mass index", "kg/m²", minimum=10, maximum=80, example=32.1),
        Column(
            "BLOOD_PRESSURE", "float", "Average", "mmHg", minimum=40, maximum=200, example=101.0
        ),
        Column(
            "TOTAL_CHOLESTEROL", "float", "Serum", "mg/dL", minimum=50, maximum=500, example=157.0
        ),
        Column(
            "LDL",
            "float",
            "Low-density lipoproteins",
            "mg/dL",
            minimum=10,
            maximum=400,
            example=93.2,
        ),
        Column(
            "HDL",
            "float",
            "High-density lipoproteins",
            "mg/dL",
            minimum=10,
            maximum=150,
            example=38.0,
        ),
        Column("CHOLESTEROL_RATIO", "float", "Total to HDL", minimum=1, maximum=20, example=4.0),
        Column(
            "LOG_TRIGLYCERIDES", "float", "Log of serum level", minimum=2, maximum=8, example=4.86
        ),
        Column("GLUCOSE", "float", "Blood sugar", "mg/dL", minimum=30, maximum=300, example=87.0),
    ),
    target=Column(
        "PROGRESSION", "float", "Disease progression one year after baseline", example=212.1
    ),
)
