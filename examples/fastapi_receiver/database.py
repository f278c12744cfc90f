"""The database of the warehouse. `python database.py` creates the tables, with ten chairs in stock."""

import os

from discue_client.inbox.sqlalchemy import inbox_table
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

Session = sessionmaker(create_engine(os.environ.get("DATABASE_URL", "sqlite:///warehouse.db")))


class Base(DeclarativeBase):
    pass


class Stock(Base):
    __tablename__ = "stock"

    product: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[int]


inbox_table(Base.metadata)


def create_tables() -> None:
    with Session.begin() as session:
        Base.metadata.create_all(session.connection())
        session.add(Stock(product="chair", quantity=10))


if __name__ == "__main__":
    create_tables()
