"""What a worker runs: `async-jobs worker --handlers examples.shop.handlers …`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from async_jobs import JobContext, Reject, RetryAfter, job_registry
from examples.shop import mail
from examples.shop.database import worker_pool


class Receipt(BaseModel):
    """The payload of `send_receipt`: an id, so that what is sent is what the order says now."""

    order_id: UUID


class SalesReport(BaseModel):
    """The payload of `sales_report`."""

    since: datetime | None = None


# Each raises on purpose where it knows better than the backoff what to do next; for whatever else
# goes wrong, say a lost connection, the job is tried again by itself.
@job_registry.handler("send_receipt", timeout_seconds=30)
async def send_receipt(ctx: JobContext, payload: Receipt) -> dict[str, str]:
    """Mail the customer what was bought."""
    pool = await worker_pool()
    order = await pool.fetchrow(
        "SELECT o.email, o.sku, o.quantity, o.quantity * p.price_cents AS total_cents"
        " FROM shop_orders o JOIN shop_products p USING (sku)"
        " WHERE o.id = $1 AND o.tenant_id = $2",
        *(payload.order_id, ctx.tenant_id),
    )
    if order is None:
        raise Reject("the order does not exist")
    try:
        await mail.send(
            pool,
            # One receipt for an order, whichever attempt sends it: a worker may die after this
            # and before its outcome is written, and then the job runs again.
            key=f"receipt/{payload.order_id}",
            # The same for all executions of one lease and new for each attempt.
            sent_as=ctx.execution_key,
            recipient=order["email"],
            body=f"{order['quantity']} x {order['sku']}: {order['total_cents'] / 100:.2f}",
        )
    except mail.MailboxUnknownError:
        # Without the address: reasons are kept with the job and shown to operators.
        raise Reject("the provider knows no such mailbox") from None
    except mail.TooManyRequestsError as error:
        raise RetryAfter(error.retry_after_seconds, "the provider is busy") from error
    return {"receipt": str(payload.order_id)}


@job_registry.handler("sales_report", timeout_seconds=300)
async def sales_report(ctx: JobContext, payload: SalesReport) -> dict[str, int]:
    """Count a tenant's orders; the result is kept with the job."""
    pool = await worker_pool()
    row = await pool.fetchrow(
        "SELECT count(*) AS orders, coalesce(sum(o.quantity * p.price_cents), 0) AS total_cents"
        " FROM shop_orders o JOIN shop_products p USING (sku)"
        " WHERE o.tenant_id = $1 AND ($2::timestamptz IS NULL OR o.ordered_at >= $2)",
        *(ctx.tenant_id, payload.since),
    )
    assert row is not None
    return {"orders": row["orders"], "total_cents": int(row["total_cents"])}
