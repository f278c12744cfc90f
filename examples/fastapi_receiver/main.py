"""A warehouse that takes the goods of each order from its stock."""

from typing import Annotated

from discue_client import DoNotRetry, Event, Retry, Webhook, inbox
from discue_client.adapters.fastapi import verified
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import update

from database import Session, Stock

app = FastAPI()
webhook = Webhook()  # The secret is in DISCUE_WEBHOOK_SECRET.


class Order(BaseModel):
    product: str
    quantity: int


@app.post("/orders", status_code=204)
def receive(event: Annotated[Event[Order], Depends(verified(webhook, Order))]) -> None:
    order = event.data
    if order.quantity < 1:
        raise DoNotRetry  # It will never be right: discue lists it as missed.
    with Session.begin() as session, inbox.once(session, event) as first:
        if not first:
            return  # discue did not see the first response, and sent the message again.
        take = update(Stock).where(Stock.product == order.product, Stock.quantity >= order.quantity)
        take = take.values(quantity=Stock.quantity - order.quantity)
        if session.scalar(take.returning(Stock.quantity)) is None:
            raise Retry(after=3600)  # Sold out: the transaction is rolled back.
