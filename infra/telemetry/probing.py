"""Asks broker and database every few seconds whether they answer, in a thread beside the work, for /readyz.

It only looks: what a service does about a neighbour that is away is the service's own affair.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from infra.telemetry.health import Check, Health, Neighbour

EVERY_S = 3.0
"""How late /readyz knows of a neighbour, beside `ANSWER_S`. Each look is one small request."""
ANSWER_S = 3.0

Ask = Callable[[], str | None]
"""Why the neighbour cannot be used, None: it answers. One that says nothing for long is taken to be away."""


def broker(address: str) -> Ask:
    """Asks Kafka for its metadata."""
    from confluent_kafka import KafkaException  # noqa: PLC0415 - a service without a broker needs no client
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    from infra.client import connection  # noqa: PLC0415

    kept: list[AdminClient] = []

    def ask() -> str | None:
        if not kept:
            kept.append(AdminClient(connection(address)))
        try:
            kept[0].list_topics(timeout=ANSWER_S)
        except KafkaException as error:
            return f"{address} does not answer ({error.args[0].str()})"
        return None

    return ask


def database(dsn: str) -> Ask:
    """Asks PostgreSQL, by a connection that is kept."""
    import psycopg  # noqa: PLC0415 - a service without a database needs no client

    kept: list[psycopg.Connection] = []

    def ask() -> str | None:
        try:
            if not kept:
                kept.append(
                    psycopg.connect(
                        dsn, autocommit=True, connect_timeout=int(ANSWER_S), application_name="telltale-probe"
                    )
                )
            kept[0].execute("SELECT 1")
        except psycopg.Error as error:
            for each in kept:
                each.close()
            kept.clear()
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None

    return ask


@contextmanager
def probing(health: Health, asks: Mapping[str, Ask], *, required: bool = True) -> Iterator[None]:
    """A check of `health` for each of `asks`, by its name, kept up to date while this is open."""
    stop = threading.Event()
    neighbours = {name: Neighbour(name, answer_s_max=2 * ANSWER_S) for name in asks}

    def check(of: Neighbour) -> Check:
        return of.check(required=required)

    def look() -> None:
        while True:
            for name, ask in asks.items():
                neighbours[name].asked()
                try:
                    trouble = ask()
                except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer, and the next look comes
                    trouble = f"{type(error).__name__}: {error}"
                if trouble is None:
                    neighbours[name].answered()
                else:
                    neighbours[name].failed(trouble)
            if stop.wait(EVERY_S):
                return

    for name, of in neighbours.items():
        health.check(name, lambda of=of: check(of))  # type: ignore[misc]
    thread = threading.Thread(target=look, name="probes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(2 * ANSWER_S)
