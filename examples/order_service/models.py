"""The database of the shop. `python models.py` creates the tables."""

import os

from discue_client.outbox.sqlalchemy import outbox_table
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    product: Mapped[str]
    quantity: Mapped[int]


outbox_table(Base.metadata)

if __name__ == "__main__":
    Base.metadata.create_all(engine)
