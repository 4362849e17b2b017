"""The shop's HTTP interface: `uvicorn --factory examples.shop.app:create_app`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from async_jobs import (
    AsyncJobsConfig,
    EnqueueJobRequest,
    InvalidJobError,
    JobService,
    PostgresJobStore,
    QuotaExceededError,
    create_jobs_router,
)
from examples.shop.database import Connection, create_tables, open_pool


class Order(BaseModel):
    """What a customer sends."""

    sku: str
    quantity: int = Field(default=1, ge=1, le=100)
    email: str = Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")


class Ordered(BaseModel):
    """What the customer gets: the receipt follows by mail."""

    order_id: UUID
    receipt_job_id: UUID


def create_app() -> FastAPI:
    """Return the application. Its settings are those of async_jobs: see examples/.env.local."""
    config = AsyncJobsConfig.from_env()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with await open_pool(config.db_dsn) as pool:
            await create_tables(pool)
            app.state.pool = pool
            app.state.service = JobService(config, PostgresJobStore(pool))
            yield

    app = FastAPI(title="shop", lifespan=lifespan)
    # Other services hand in jobs at /jobs/..., with a token; see client.py.
    app.include_router(
        create_jobs_router(
            job_service_factory=lambda: app.state.service,
            auth_token=config.enqueue_auth_token,
            tokens=config.api_tokens,
        )
    )
    app.add_exception_handler(InvalidJobError, _refusal(422))
    app.add_exception_handler(QuotaExceededError, _refusal(429))

    @app.post("/shops/{tenant_id}/orders", status_code=201)
    async def take_order(tenant_id: str, order: Order) -> Ordered:
        """Sell something. The order and the job for its receipt are one transaction."""
        async with app.state.pool.acquire() as connection, connection.transaction():
            return await _take(app.state.service, connection, tenant_id, order)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """What the image's health check asks for."""
        return {"status": "live"}

    return app


async def _take(
    service: JobService, connection: Connection, tenant_id: str, order: Order
) -> Ordered:
    """Write an order and its job. Whatever is raised here rolls both back."""
    try:
        order_id = await connection.fetchval(
            "INSERT INTO shop_orders (tenant_id, sku, quantity, email)"
            " VALUES ($1, $2, $3, $4) RETURNING id",
            *(tenant_id, order.sku, order.quantity, order.email),
        )
    except asyncpg.ForeignKeyViolationError:
        raise HTTPException(404, "no such product") from None
    enqueued = await service.enqueue(
        EnqueueJobRequest(
            tenant_id=tenant_id,
            use_case="receipts",
            type="send_receipt",
            payload={"order_id": str(order_id)},
        ),
        connection=connection,
    )
    # Last, because whoever else buys this product waits for its row until the commit.
    taken = await connection.fetchval(
        "UPDATE shop_products SET stock = stock - $2 WHERE sku = $1 AND stock >= $2 RETURNING sku",
        *(order.sku, order.quantity),
    )
    if taken is None:
        raise HTTPException(409, "not in stock")
    return Ordered(order_id=order_id, receipt_job_id=enqueued.job_id)


def _refusal(status: int) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status)

    return answer
