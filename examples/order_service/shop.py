"""A shop that announces each order, and loses none: its message is stored in the transaction of the order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from discue_client import AsyncDiscue, outbox
from fastapi import FastAPI
from pydantic import BaseModel, PositiveInt

from models import Order, Session, engine


@asynccontextmanager
async def relay(_app: FastAPI) -> AsyncIterator[None]:
    """Publish the messages of committed transactions while the application runs."""
    async with AsyncDiscue() as client, outbox.Relay(engine, client):
        yield


app = FastAPI(lifespan=relay)


class NewOrder(BaseModel):
    customer: str
    product: str
    quantity: PositiveInt


@app.post("/orders", status_code=201)
def place(new: NewOrder) -> dict[str, int]:
    with Session.begin() as session:
        order = Order(**new.model_dump())
        session.add(order)
        session.flush()  # The database numbers the order.
        outbox.publish(session, "orders", {"order": order.id, **new.model_dump()}, key=new.customer)
        return {"order": order.id}
