"""A warehouse that takes the goods of each order from its stock."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from discue_client import DoNotRetry, Event, Retry, Webhook
from discue_client.adapters.flask import verified
from flask import Flask

SCHEMA = """
CREATE TABLE stock (product TEXT PRIMARY KEY, quantity INTEGER NOT NULL);
CREATE TABLE handled (key TEXT PRIMARY KEY, handled_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
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
    with transaction() as database:
        key = event.deduplication_key
        if not database.execute("INSERT INTO handled (key) VALUES (?) ON CONFLICT DO NOTHING", [key]).rowcount:
            return  # discue did not see the first response, and has sent the message again.
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
        database.executescript(SCHEMA)
