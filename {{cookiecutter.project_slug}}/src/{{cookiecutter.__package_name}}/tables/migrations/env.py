"""What alembic runs, over the connection that ``tables/migrate.py`` gives it."""

from alembic import context

context.configure(**context.config.attributes)
with context.begin_transaction():
    context.run_migrations()
