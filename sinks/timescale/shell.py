"""What the commands of the sink and of its database share: rows as a table."""

from typing import Any


def show_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """On standard output; nothing for None."""
    from rich import box  # noqa: PLC0415 - slow to import
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify="left" if name in ("topic", "owner") else "right", overflow="fold")
    for row in rows:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in columns))
    Console().print(table)
