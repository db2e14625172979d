"""The script that alembic runs, on the connection that ``tables/migrate.py`` passes."""

from alembic import context

context.configure(**context.config.attributes)
with context.begin_transaction():
    context.run_migrations()
