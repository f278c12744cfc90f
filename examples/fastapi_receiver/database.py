"""The database of the warehouse. `python database.py` creates the tables, with ten chairs in stock."""

import os
from datetime import datetime

from sqlalchemy import create_engine, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

Session = sessionmaker(create_engine(os.environ.get("DATABASE_URL", "sqlite:///warehouse.db")))


class Base(DeclarativeBase):
    pass


class Stock(Base):
    __tablename__ = "stock"

    product: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[int]


class Handled(Base):
    """A message that was handled. discue may send it again if it got no response in time."""

    __tablename__ = "handled"

    key: Mapped[str] = mapped_column(primary_key=True)
    handled_at: Mapped[datetime] = mapped_column(server_default=func.now())


def create_tables() -> None:
    with Session.begin() as session:
        Base.metadata.create_all(session.connection())
        session.add(Stock(product="chair", quantity=10))


if __name__ == "__main__":
    create_tables()
