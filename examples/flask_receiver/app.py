"""A warehouse that takes the goods of each order from its stock."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from discue_client import DoNotRetry, Event, Retry, Webhook, inbox
from discue_client.adapters.flask import verified
from discue_client.inbox.table import create_statements
from flask import Flask

SCHEMA = """
CREATE TABLE stock (product TEXT PRIMARY KEY, quantity INTEGER NOT NULL);
INSERT INTO stock VALUES ('chair', 10);
"""

app = Flask(__name__)
app.config["DATABASE"] = os.environ.get("DATABASE", "warehouse.db")
webhook = Webhook()  # The secret is in DISCUE_WEBHOOK_SECRET.


@dataclass
class Order:
    product: str
    quantity: int


@app.post("/orders")
@verified(webhook, Order)
def receive(event: Event[Order]) -> None:
    order = event.data
    if order.quantity < 1:
        raise DoNotRetry  # It will never be right: discue lists it as missed.
    with transaction() as database, inbox.once(database, event) as first:
        if not first:
            return  # discue did not see the first response, and sent the message again.
        take = "UPDATE stock SET quantity = quantity - ? WHERE product = ? AND quantity >= ?"
        if not database.execute(take, [order.quantity, order.product, order.quantity]).rowcount:
            raise Retry(after=3600)  # Sold out: the transaction is rolled back.


@contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(app.config["DATABASE"])) as database, database:
        yield database


@app.cli.command("create-tables")
def create_tables() -> None:
    """Create the tables, with ten chairs in stock."""
    with transaction() as database:
        database.executescript(";\n".join([*create_statements("sqlite"), SCHEMA]))
