"""An SQL table of orders as input: what the tests of batch scoring fill and read."""

import pyarrow as pa
import sqlalchemy as sa

from iris_flower_prediction.tables.databases import connect

SQL_TYPES = {
    pa.float64(): sa.Double,
    pa.int64(): sa.BigInteger,
    pa.bool_(): sa.Boolean,
    pa.date32(): sa.Date,
}


def fill(url: str, table: pa.Table, first: int = 0, number=sa.BigInteger) -> None:
    """Add rows to the SQL table ``orders``, numbered from ``first``: its watermark ``number``."""
    columns = [sa.Column(f.name, SQL_TYPES.get(f.type, sa.Text)) for f in table.schema]
    orders = sa.Table("orders", sa.MetaData(), sa.Column("number", number), *columns)
    numbered = [{"number": first + at, **row} for at, row in enumerate(table.to_pylist())]
    with connect(url, create=True) as connection:
        orders.create(connection, checkfirst=True)
        if numbered:
            connection.execute(orders.insert(), numbered)
