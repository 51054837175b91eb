"""The tables of the accounts, as the newest migration leaves them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, UniqueConstraint

from services.adapters.caseindex_database import Tables

#: "sightacc" in ASCII.
ACCOUNTS: Final = Tables(
    "accounts database", "accounts_migrations", 0x7369676874616363, version_table="accounts_alembic_version"
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

USERS: Final = Table(
    "users",
    METADATA,
    # ``services.core.access.name_key``: names that look alike are one.
    Column("name_key", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),
    # Empty for whoever signs in elsewhere.
    Column("password_hash", String, nullable=False),
    # Issuer and subject of whoever signs in elsewhere; NULL for local users.
    Column("subject", String),
    Column("disabled", Boolean, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    # 0 = never.
    Column("signed_in_at_ns", BigInteger, nullable=False),
    UniqueConstraint("subject"),
)

SESSIONS: Final = Table(
    "sessions",
    METADATA,
    # Of the token, which is nowhere: whoever reads this table cannot take a session over.
    Column("token_sha256", String, primary_key=True),
    Column("name_key", String, nullable=False),
    Column("used_at_ns", BigInteger, nullable=False),
    Column("ends_at_ns", BigInteger, nullable=False),
    Index(None, "name_key"),
    Index(None, "used_at_ns"),
)

AUDIT: Final = Table(
    "audit",
    METADATA,
    # SQLite counts up by itself only in an INTEGER.
    Column("entry_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("who", String, nullable=False),
    Column("role", String, nullable=False),
    Column("action", String, nullable=False),
    Column("target", String, nullable=False),
    Column("address", String, nullable=False),
    Column("outcome", String, nullable=False),
    Index(None, "at_ns"),
)
