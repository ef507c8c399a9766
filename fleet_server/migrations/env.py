"""How Alembic runs our migrations: on the connection that `fleet_server.db.migrate` hands over, and in no other way."""

from __future__ import annotations

from alembic import context

from fleet_server.db import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
