"""The original system, rebuilt: FastAPI on PostgreSQL, with its row lock and faster variants of it.

uvicorn --factory benchmarks.original:row_lock

They serve what a comparison needs: `POST /buy_ticket` without a body buys one ticket of the item.
Each purchase is a record. A commit does not wait for the disk, and neither does the emulator that
the functions use here.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
from fastapi import FastAPI, HTTPException
from sqlalchemy import CheckConstraint, DateTime, Engine, ForeignKey, create_engine, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

ITEM: Final = 1
CONNECTIONS: Final = 5  # of each process
SETTINGS: Final = {"lock_timeout": "5s", "synchronous_commit": "off"}
CACHE_SECONDS: Final = 1.0

LOCK: Final = "SELECT stock FROM items WHERE item_id = $1 FOR UPDATE"
TAKE: Final = "UPDATE items SET stock = stock - 1, updated_at = now() WHERE item_id = $1"
RECORD: Final = "INSERT INTO purchases (item_id, quantity) VALUES ($1, 1) RETURNING purchase_id"
TAKE_AND_RECORD: Final = """
WITH taken AS (
    UPDATE items SET stock = stock - 1, updated_at = now()
    WHERE item_id = $1 AND stock > 0 RETURNING item_id, stock
), record AS (
    INSERT INTO purchases (item_id, quantity) SELECT item_id, 1 FROM taken RETURNING purchase_id
)
SELECT purchase_id, stock FROM taken, record
"""

type Bought = tuple[UUID, int]  # the purchase's id, the tickets that are left
type Buy = Callable[[asyncpg.Pool], Awaitable[Bought | None]]  # None: it is sold out


class Base(DeclarativeBase):
    """The tables."""


class ItemRow(Base):
    """An item on sale."""

    __tablename__ = "items"
    __table_args__ = (CheckConstraint("stock >= 0"),)
    item_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    stock: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


class PurchaseRow(Base):
    """A purchase record."""

    __tablename__ = "purchases"
    purchase_id: Mapped[UUID] = mapped_column(
        primary_key=True, server_default=func.gen_random_uuid()
    )
    item_id: Mapped[int] = mapped_column(ForeignKey("items.item_id"))
    quantity: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


def engine(url: str, **pool: Any) -> Engine:
    """Return SQLAlchemy's engine for the database. pool: options of its pool of connections."""
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    return create_engine(
        url.replace("postgresql:", "postgresql+psycopg:"),
        connect_args={"options": options},
        **pool,
    )


def row_lock() -> FastAPI:
    """Return the original's design: a transaction that locks the item's row."""
    return _served(_buy_with_lock)


def row_lock_with_cache() -> FastAPI:
    """Return the same with a cache: each process remembers "sold out" for a second."""
    sold_out_at = -CACHE_SECONDS

    async def buy(pool: asyncpg.Pool) -> Bought | None:
        nonlocal sold_out_at
        asked_at = time.monotonic()
        if asked_at < sold_out_at + CACHE_SECONDS:
            return None
        bought = await _buy_with_lock(pool)
        if bought is None:
            sold_out_at = asked_at
        return bought

    return _served(buy)


def conditional_update() -> FastAPI:
    """Return the fastest: one statement takes a ticket, if there is one, and records it."""

    async def buy(pool: asyncpg.Pool) -> Bought | None:
        row = await pool.fetchrow(TAKE_AND_RECORD, ITEM)
        return (row["purchase_id"], row["stock"]) if row else None

    return _served(buy)


def row_lock_with_orm() -> FastAPI:
    """Return the original's design as it is usually written: an ORM, and blocking handlers."""
    connections = engine(os.environ["DATABASE_URL"], pool_size=CONNECTIONS, max_overflow=0)
    app = FastAPI()

    @app.post("/buy_ticket")
    def buy_ticket() -> Mapping[str, Any]:
        try:
            with Session(connections) as session, session.begin():
                item = session.execute(
                    select(ItemRow).where(ItemRow.item_id == ITEM).with_for_update()
                ).scalar_one()
                if item.stock == 0:
                    return _reply(None)
                item.stock -= 1
                purchase = PurchaseRow(purchase_id=uuid4(), item_id=ITEM, quantity=1)
                session.add(purchase)
                bought = purchase.purchase_id, item.stock
        except OperationalError as error:  # the lock's timeout
            raise _busy() from error
        return _reply(bought)

    return app


async def _buy_with_lock(pool: asyncpg.Pool) -> Bought | None:
    async with pool.acquire() as connection, connection.transaction():
        stock: int = await connection.fetchval(LOCK, ITEM)
        if stock == 0:
            return None
        await connection.execute(TAKE, ITEM)
        return await connection.fetchval(RECORD, ITEM), stock - 1


def _served(buy: Buy) -> FastAPI:
    """Return the server of a way to buy, with its own pool of connections."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(
            os.environ["DATABASE_URL"],
            min_size=CONNECTIONS,
            max_size=CONNECTIONS,
            server_settings=SETTINGS,
        ) as app.state.pool:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/buy_ticket")
    async def buy_ticket() -> Mapping[str, Any]:
        try:
            bought = await buy(app.state.pool)
        except asyncpg.LockNotAvailableError as error:
            raise _busy() from error
        return _reply(bought)

    return app


def _busy() -> HTTPException:
    return HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "Server busy. Try again.")


def _reply(bought: Bought | None) -> Mapping[str, Any]:
    """Return the reply to a purchase. Raises HTTPException where it is sold out."""
    if bought is None:
        raise HTTPException(HTTPStatus.CONFLICT, "Sold out.")
    purchase_id, stock = bought
    return {
        "success": True,
        "message": "Ticket purchased.",
        "purchase_id": purchase_id,
        "item_id": ITEM,
        "quantity": 1,
        "remaining_stock": stock,
    }
