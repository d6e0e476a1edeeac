"""Tables as people have them, and what becomes of each: the table of docs/tables.md.

    python benchmarks/tables.py              # prints it
    python benchmarks/tables.py million      # CPU seconds and MB that a million rows take

A test holds the page against what this prints.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import rlrun.envs.series as trading
from rlrun.config.compose import compose
from rlrun.data.table import DataError, read_table

DAYS = [f"2020-01-{day:02}" for day in range(1, 31)]


def table(times: list[str], *columns: list[Any], header: str = "time,price", by: str = ",") -> str:
    """Text of a table; prices count from 10 where none are given."""
    cells = columns or ([10 + i for i in range(len(times))],)
    lines = [by.join(map(str, row)) for row in zip(times, *cells, strict=True)]
    return "\n".join([header.replace(",", by), *lines]) + "\n"


def changed(row: int, price: Any) -> str:
    prices: list[Any] = [10 + i for i in range(30)]
    prices[row] = price
    return table(DAYS, prices)


def epochs(per_second: int, form: Callable[[int], Any] = int) -> str:
    return table([str(form((1_577_836_800 + 86_400 * day) * per_second)) for day in range(30)])


PLAIN = table(DAYS)
SYMBOLS = table(
    [day for day in DAYS for _ in range(2)],
    ["BTC", "ETH"] * 30,
    list(range(1, 61)),
    header="time,symbol,price",
)
AUTUMN = [f"2020-10-25T{hour}" for hour in ("00:00", "01:00", "02:00", "02:00", "03:00", "04:00")]
SPRING = [f"2020-03-29T{hour}" for hour in ("00:00", "01:00", "03:00", "04:00")]
OFFSETS = [
    "2020-10-25T01:00+02:00",
    "2020-10-25T02:00+02:00",
    "2020-10-25T02:00+01:00",
    "2020-10-25T03:00+01:00",
]

LARGE = table(DAYS, list(range(10, 40)), [f"{i}e39" for i in range(30)], header="time,price,x")
INDEXED = table([str(i) for i in range(30)], DAYS, list(range(10, 40)), header=",time,price")
MONTHS = [f"20{year}-{month:02}" for year in (20, 21, 22) for month in range(1, 13)]
DAILY: dict[str, Any] = {"step": "1d"}

SEGMENT: dict[str, Any] = DAILY | {"on_gap": "segment"}

FILES: list[tuple[str, str | bytes, dict[str, Any]]] = [
    ("the doubled hour of autumn, local times", table(AUTUMN), {}),
    ("the missing hour of spring, local times, `env.step=1h`", table(SPRING), {"step": "1h"}),
    ("the doubled hour with offsets, `env.step=1h`", table(OFFSETS), {"step": "1h", "lookback": 1}),
    ("a month is missing, `env.step=1d`", table([*DAYS, "2020-03-01"]), DAILY),
    ("the same, `env.on_gap=ffill`", table([*DAYS, "2020-03-01"]), DAILY | {"on_gap": "ffill"}),
    ("the same, `env.on_gap=segment`", table([*DAYS, "2020-03-01"]), SEGMENT),
    ("a NaN cell", changed(4, "NaN"), {}),
    ("a \".\" cell, as FRED writes it", changed(4, "."), {}),
    ("an empty cell", changed(4, ""), {}),
    ("a byte-order mark", "\ufeff" + PLAIN, {}),
    ("UTF-16", PLAIN.encode("utf-16"), {}),
    ("semicolons and decimal commas", table(DAYS, [f"{10 + i},5" for i in range(30)], by=";"), {}),
    ("thousands separators", table(DAYS, ["1.234,56"] * 30, by=";"), {}),
    ("commas that may be either", table(DAYS, ["1,234"] * 30, by=";"), {}),
    ("tabs", table(DAYS, by="\t"), {}),
    ("rows out of order", table([*DAYS[:5], *DAYS[7:], DAYS[6]], list(range(10, 39))), {}),
    ("a row twice", table([*DAYS[:5], *DAYS[4:]], list(range(10, 41))), {}),
    ("a negative price", changed(4, -3.5), {}),
    ("the same, `env.account=fixed`", changed(4, -3.5), {"account": "fixed", "capital": 1000.0}),
    ("a price of zero", changed(4, 0), {}),
    ("a constant column", table(DAYS, list(range(10, 40)), [7] * 30, header="time,price,x"), {}),
    ("values of 1e39", LARGE, {}),
    ("the same, `env.scale=none`", LARGE, {"scale": "none"}),
    ("seconds since 1970", epochs(1), {}),
    ("the same as floats", epochs(1, float), {}),
    ("milliseconds", epochs(1_000), {}),
    ("microseconds", epochs(1_000_000), {}),
    ("nanoseconds", epochs(1_000_000_000), {}),
    ("days such as 20200131", table([day.replace("-", "") for day in DAYS]), {}),
    ("hours such as 2020013100", table([day.replace("-", "") + "00" for day in DAYS]), {}),
    ("months such as 2024-01", table(MONTHS), {}),
    ("days such as 01/02/2020", table([f"{day:02}/01/2020" for day in range(1, 31)]), {}),
    ("a few times with an offset", table([*DAYS[:20], *(f"{day}T00:00+01:00" for day in DAYS[20:])]), {}),
    ("too few rows", table(DAYS[:10]), {"lookback": 16}),
    ("many symbols in one table", SYMBOLS, {}),
    ("the same, `env.where={symbol: BTC}`", SYMBOLS, {"where": {"symbol": "BTC"}}),
    ("a column of text", table(DAYS, list(range(10, 40)), ["ok"] * 30, header="time,price,note"), {}),
    ("an index column without a name", INDEXED, {}),
    ("times in a column without a name", PLAIN.replace("time", "", 1), {}),
    ("no header", PLAIN.partition("\n")[2], {}),
    ("comments before the header", "# from the exchange\n" + PLAIN, {}),
    ("gzip called .csv", gzip.compress(PLAIN.encode()), {}),
    ("plain text called .csv.gz", PLAIN, {"name": "my.csv.gz"}),
    ("an Excel file", b"PK\x03\x04", {}),
    ("a row with a cell too many", PLAIN.replace("11\n", "11,1\n", 1), {}),
]  # fmt: skip


def verdict(text: str | bytes, how: dict[str, Any], folder: Path) -> tuple[str, str]:
    """Whether a file is read, and what is said."""
    path = folder / how.pop("name", "my.csv")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    base = compose(["algo=ppo", "env=series", "env.path=my.csv", "eval=walk_forward"]).env
    assert isinstance(base, trading.SeriesConfig)
    config = replace(base, path=str(path), **{"lookback": 4} | how)
    try:
        spec = trading.load_market(config).spec
    except DataError as error:
        return "refused", str(error).replace(f"{path}: ", "")
    told = "; ".join(spec.notes)
    return "read", told or f"{len(spec.index)} rows from {str(spec.index[0])[:16]}"


def page() -> list[str]:
    """The rows of the table."""
    lines = ["| file | verdict | what is said |", "| --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as folder:
        for name, text, how in FILES:
            read, said = verdict(text, dict(how), Path(folder))
            lines.append(f"| {name} | {read} | {said} |")
    return lines


def million() -> None:
    """A million rows of a time, a price and three columns, read by a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "million.csv"
        times = (np.datetime64("2000-01-01T00:00") + np.arange(1_000_000)).astype(str).tolist()
        rows = np.random.default_rng(0).normal(50, 1, (1_000_000, 4)).tolist()
        with path.open("w") as file:
            file.write("time,price,a,b,c\n")
            file.writelines(
                f"{t},{a:.4f},{b:.6f},{c:.6f},{d:.6f}\n" for t, (a, b, c, d) in zip(times, rows, strict=True)
            )
        subprocess.run([sys.executable, __file__, str(path)], check=True)


def most_memory() -> float:
    """MB that this process has held at most."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024


def measure(path: Path) -> None:
    before, began = most_memory(), time.process_time()
    series = read_table(path, "time")
    seconds, size = time.process_time() - began, most_memory() - before
    print(f"{len(series.index):,} rows x {len(series.columns)} columns: {seconds:.2f} CPU s, {size:.0f} MB")


if __name__ == "__main__":
    if sys.argv[1:] == ["million"]:
        million()
    elif sys.argv[1:]:
        measure(Path(sys.argv[1]))
    else:
        print("\n".join(page()))
