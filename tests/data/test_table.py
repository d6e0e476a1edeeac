"""Tables as people have them: what is read as it is meant, and what is refused in which words."""

from __future__ import annotations

import gzip
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st
from trading_envs import shipped

from rlrun import envs
from rlrun.config.keys import violations
from rlrun.data.cells import Cells
from rlrun.data.table import SHIPPED, DataError, Series, read_table
from rlrun.envs.series import load_market

GOOD = "time,close,volume\n2020-01-01,10,1\n2020-01-02,11,2\n2020-01-03,12,3\n2020-01-04,13,4\n"
LONG = "time,symbol,close\n" + "".join(
    f"2020-01-{day:02},{name},{day + k}\n" for day in range(1, 7) for k, name in enumerate(("BTC", "ETH"))
)


def write(folder: Path, text: str | bytes, name: str = "my.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def hours(*stamps: str) -> str:
    """A table of those stamps."""
    return "time,close\n" + "".join(f"{stamp},{i + 1}\n" for i, stamp in enumerate(stamps))


def moments(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[ns]")


def test_the_same_table_has_the_same_hash_however_it_is_written(tmp_path: Path) -> None:
    plain = read_table(write(tmp_path, GOOD), "time")
    odd = GOOD.replace("\n", "\r\n").replace("11", " 11.0").replace("12,3", '"12","3"')
    for text, name in (
        (gzip.compress(GOOD.encode()), "my.csv.gz"),
        (gzip.compress(GOOD.encode()), "my.csv"),  # by what it holds, not by its name
        (GOOD, "my.csv.gz"),
        ("\ufeff" + odd, "my.csv"),
        (GOOD.encode("utf-16"), "my.csv"),
        (GOOD.replace(",", "\t"), "my.tsv"),
        (GOOD.replace(",", ";"), "my.csv"),
        (GOOD.replace("\n2020-01-03", "\n\n2020-01-03"), "my.csv"),
        (
            GOOD.replace("10,1", "10.0e0,+1")
            .replace("-01,", "-01T00:00,")
            .replace("-03,", "-03 00:00:00.000,"),
            "my.csv",
        ),
    ):
        other = read_table(write(tmp_path, text, name), "time")
        assert other.sha256 == plain.sha256, text
    assert plain.columns == ("close", "volume") and plain.notes == () and not len(plain.breaks)
    changed = read_table(write(tmp_path, GOOD.replace("13", "13.5")), "time")
    assert changed.sha256 != plain.sha256
    with pytest.raises(ValueError, match="read-only"):
        plain.values[0, 0] = 1.0
    picked = read_table(write(tmp_path, GOOD), "time", ["volume"])
    assert picked.values.tolist() == [[1.0], [2.0], [3.0], [4.0]]


def test_names_may_be_of_any_alphabet(tmp_path: Path) -> None:
    text = GOOD.replace("close", "цена").replace("volume", "größe")
    found = read_table(write(tmp_path, text), "time")
    assert found.columns == ("цена", "größe") and found.values[:, 0].tolist() == [10.0, 11.0, 12.0, 13.0]
    assert Cells(Path("x"), text.encode()).columns([0], [1])[1].shape == (4, 1)
    long = LONG.replace("BTC", "Öl").replace("ETH", "黄金")
    for name in ("Öl", "黄金"):
        one = read_table(write(tmp_path, long), "time", where={"symbol": name})
        assert len(one.index) == 6


def test_european_tables_are_read(tmp_path: Path) -> None:
    text = "time;preis\n2020-01-01;1,5\n2020-01-02;-2,25\n2020-01-03;3\n2020-01-04;1,0e3\n"
    assert read_table(write(tmp_path, text), "time").values[:, 0].tolist() == [1.5, -2.25, 3.0, 1000.0]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("-1", "5", [-1, 5]),
        ("20200101", "20201301", [20200101, 20201301]),  # no dates
        ("20200131", "20200201", ["2020-01-31", "2020-02-01"]),
        ("2019", "2020", [2019, 2020]),
        ("1546300800", "1546304400", ["2019-01-01T00:00", "2019-01-01T01:00"]),
        ("1546300800.0", "1546300800.5", ["2019-01-01T00:00", "2019-01-01T00:00:00.5"]),
        ("1.5463008e9", "1.5463044e9", ["2019-01-01T00:00", "2019-01-01T01:00"]),
        ("1546300800000", "1546300800001", ["2019-01-01T00:00", "2019-01-01T00:00:00.001"]),
        ("1546300800000000", "1546300800000001", ["2019-01-01", "2019-01-01T00:00:00.000001"]),
        ("1546300800000000000", "1546300800000000001", ["2019-01-01", "2019-01-01T00:00:00.000000001"]),
        ("2024-01", "2024-02", ["2024-01-01", "2024-02-01"]),
        ("2020-01-01T00:00Z", "2020-01-01T01:00Z", ["2020-01-01T00:00", "2020-01-01T01:00"]),
        ("2020-01-01 00:00:00.123456789", "2020-01-02", ["2020-01-01T00:00:00.123456789", "2020-01-02"]),
        ("2020-10-25T02:00+02:00", "2020-10-25T02:00+01:00", ["2020-10-25T00:00", "2020-10-25T01:00"]),
        ("2020-01-01T02:00:00-0530", "2020-01-01T02:00:00-0630", ["2020-01-01T07:30", "2020-01-01T08:30"]),
    ],
)
def test_times_are_read_as_they_are_meant(
    tmp_path: Path, first: str, second: str, expected: list[Any]
) -> None:
    found = read_table(write(tmp_path, hours(first, second)), "time").index
    wanted = np.array(expected, np.int64) if isinstance(expected[0], int) else moments(*expected)
    assert found.dtype == wanted.dtype and found.tolist() == wanted.tolist()


BAD_FILES: list[tuple[str | bytes, str]] = [
    ("", "the file is empty"),
    ("time,close\n", "0 rows of data are too few"),
    ("time,close,close\n2020-01-01,1,1\n", "two columns are named close"),
    ("time,,\n2020-01-01,1,1\n2020-01-02,1,1\n", "two columns have no name"),
    ("date,close\n2020-01-01,1\n2020-01-02,2\n", "env.time names time: the columns are date, close"),
    ("tine,close\n2020-01-01,1\n2020-01-02,2\n", "did you mean tine"),
    ("time\n2020-01-01\n2020-01-02\n", "no column beside the time"),
    (GOOD.replace("11,2", "11"), "line 3 has 2 cells, not 3"),
    (GOOD.replace("11,2", "11,2,3"), "line 3 has 4 cells, not 3"),
    (GOOD.replace("11", "nan"), "'nan' is not a finite number: a value is missing"),
    (GOOD.replace("11", "."), "line 3, column close: '.' is not a finite number: a value is missing: leave"),
    (GOOD.replace("11", "inf"), "line 3, column close: 'inf' is not a finite number"),
    (GOOD.replace("11", ""), "line 3, column close: '' is not a finite number: a value is missing"),
    (GOOD.replace("11", "1_1"), "line 3, column close: '1_1' is not a finite number"),
    (GOOD.replace("11", "0x1p3"), "line 3, column close: '0x1p3' is not a finite number"),
    (GOOD.replace("12,3", "12,n/a"), "'n/a' is not a finite number: a value is missing"),
    (GOOD.replace("01-03", "01-02"), "line 4, column time: '2020-01-02' is a duplicate of the line before"),
    (GOOD.replace("01-03", "01-01"), "'2020-01-01' is earlier than the line before: sort the file by time"),
    (GOOD.replace("2020-01-03", "yesterday"), "line 4, column time: 'yesterday' is no time"),
    (GOOD.replace("2020-01-03", "2020-02-30"), "line 4, column time: '2020-02-30' is no time"),
    (GOOD.replace("2020-01-03", "0020-01-03"), "'0020-01-03' is no time"),
    (GOOD.replace("2020-01-0", "01/0"), "'01/01' is no time"),
    (hours("01/02/2024", "02/02/2024"), "'01/02/2024' may begin with a day or a month; .*: write ISO 8601"),
    (hours("2020010100", "2020010101"), "'2020010100' may be a date or a count of seconds: write ISO"),
    (GOOD.replace("2020-01-03", "2020-01-03T00:00Z"), "has a UTC offset, and the first row none: give all"),
    (hours("2020-01-01T00:00+01:00", "2020-01-02T00:00"), "has no UTC offset, and the first row one"),
    ("time,close\n1,1\nx,2\n", "line 3, column time: 'x' is not an integer"),
    ("time,close\n1,1\n2.5,2\n", "line 3, column time: '2.5' is neither an integer nor seconds"),
    (b"time,close\n1,\xff\n2,3\n", "is not UTF-8"),
    ("time,close\n1,0\n2,3\n3,-4\n", r"close is 0 at 1; -4 at 3 \(2 in all\): env.account=fixed trades"),
    ('time,close\n1,"2\n', "cannot be read"),
    (b"PK\x03\x04...", "an Excel or a zip file: save the table as CSV"),
    (gzip.compress(GOOD.encode(), mtime=0)[:-9], "cannot be read"),
    ("2020-01-01,10\n2020-01-02,11\n", r"its first line holds data \(2020-01-01, 10\).*such as time,price"),
    ("0,10\n1,11\n", "its first line holds data"),
    (",close\n2020-01-01,1\n2020-01-02,2\n", "env.time='' takes the first column, which has no name"),
    ("Unnamed: 0,close\n2020-01-01,1\n2020-01-02,2\n", "env.time=Unnamed: 0 takes the first column"),
    (LONG, r"env.where=\{symbol: BTC\} takes those of one of BTC, ETH"),
    (LONG.replace("BTC", "1").replace("ETH", "2"), r"env.where=\{symbol: 1\} takes those of one of 1, 2"),
    ("\n".join([LONG.splitlines()[0], *sorted(LONG.splitlines()[1:], key=lambda x: x[11:])]), r"symbol: BTC"),
    (GOOD.replace("volume", "note").replace(",1\n", ",a\n").replace(",2\n", ",b\n").replace(",3\n", ",c\n")
     .replace(",4\n", ",d\n"), r"column note holds text \('a'\): env.columns=\[close\] takes the others"),
    ("time;close\n2020-01-01;1.234,56\n2020-01-02;2\n", "'1.234,56' separates thousands: write 1234.56"),
    ("time;close\n2020-01-01;1,234\n2020-01-02;2,345\n", "may be decimal, or separate thousands"),
    (hours("2020-10-25T01:00", "2020-10-25T02:00", "2020-10-25T02:00", "2020-10-25T03:00"),
     "line 4, column time: '2020-10-25T02:00' comes after 2020-10-25T02:00: the clock was put back"),
    (hours("2020-11-01T01:45", "2020-11-01T01:00", "2020-11-01T01:15"), "the clock was put back that night"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_bad_files_are_refused_by_line_and_column(tmp_path: Path, text: str | bytes, message: str) -> None:
    config = replace(shipped(), path=str(write(tmp_path, text)))
    with pytest.raises(DataError, match=message) as caught:
        load_market(config)
    said = str(caught.value)
    assert "my.csv" in said and "\n" not in said and "drop duplicates" not in said


def test_the_first_three_offenders_are_named(tmp_path: Path) -> None:
    text = "time,close\n" + "".join(f"{i},{'x' if i > 4 else i}\n" for i in range(1, 10))
    with pytest.raises(DataError, match=r"line 6,.*line 7,.*line 8,.*\(and 2 more\)") as caught:
        read_table(write(tmp_path, text), "time")
    assert "line 9" not in str(caught.value)


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file; shipped series are .*wti_daily"):
        load_market(replace(shipped(), path="wti_dayly"))
    packed = gzip.compress(GOOD.encode())
    with pytest.raises(DataError, match="cannot be read"):
        read_table(write(tmp_path, packed[:12] + b"\0\0" + packed[14:], "my.csv.gz"), "time")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path, "time")
    good = str(write(tmp_path, GOOD))
    with pytest.raises(DataError, match=r"env\.price is clsoe, did you mean close"):
        load_market(replace(shipped(), path=good, price="clsoe"))
    with pytest.raises(DataError, match=r"too few for a lookback of 16.*: lower env\.lookback"):
        envs.make(replace(shipped(), path=good), 1)


def test_an_unnamed_column_is_no_feature_and_comments_are_skipped(tmp_path: Path) -> None:
    rows = GOOD.splitlines()
    indexed = "\n".join([f",{rows[0]}", *(f"{i},{row}" for i, row in enumerate(rows[1:]))])
    assert read_table(write(tmp_path, indexed), "time").columns == ("close", "volume")
    assert read_table(write(tmp_path, GOOD.replace("time", "", 1)), "").columns == ("close", "volume")
    said = read_table(write(tmp_path, "# made by hand\n#\n" + GOOD), "time")
    assert said.notes == ("my.csv has 2 lines before its header",)
    assert said.sha256 == read_table(write(tmp_path, GOOD), "time").sha256
    with pytest.raises(DataError, match="line 5, column close: 'x'"):
        read_table(write(tmp_path, "# made by hand\n#\n" + GOOD.replace("11", "x")), "time")


def test_one_thing_of_many_is_taken_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, LONG)
    one = read_table(path, "time", where={"symbol": "ETH"})
    assert one.columns == ("close",) and one.values[:, 0].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    numbers = write(tmp_path, LONG.replace("BTC", "1.0").replace("ETH", "2.0"), "n.csv")
    assert read_table(numbers, "time", where={"symbol": 2}).sha256 == one.sha256
    with pytest.raises(DataError, match=r"env\.where: no row has symbol=ETHH, did you mean ETH"):
        read_table(path, "time", where={"symbol": "ETHH"})
    with pytest.raises(DataError, match=r"env\.where names ticker"):
        read_table(path, "time", where={"ticker": "ETH"})
    twice = LONG.replace("2020-01-03,ETH,4", "2020-01-02,ETH,4")
    with pytest.raises(DataError, match="line 7, column time: '2020-01-02' is a duplicate"):
        read_table(write(tmp_path, twice), "time", where={"symbol": "ETH"})


GAPS = hours(
    "2020-01-01T00:00", "2020-01-01T01:00", "2020-01-01T04:00", "2020-01-01T05:00", "2020-01-01T07:00"
)


def test_missing_rows_are_refused_filled_or_begun_anew_after(tmp_path: Path) -> None:
    path = write(tmp_path, GAPS)
    assert len(read_table(path, "time").index) == 5  # without a step nothing is missing
    words = "line 4, column time: '2020-01-01T04:00' comes after 2020-01-01T01:00: 2 rows missing; line 6"
    with pytest.raises(DataError, match=words + r".*env\.on_gap=ffill.*env\.on_gap=segment"):
        read_table(path, "time", step="1h")
    filled = read_table(path, "time", step="1h", on_gap="ffill")
    assert filled.values[:, 0].tolist() == [1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0]
    assert (np.diff(filled.index) == np.timedelta64(1, "h")).all() and not len(filled.breaks)
    told = "2 gaps of 3 rows in all, the longest of 2 rows after 2020-01-01T01:00"
    assert filled.notes == (f"{told}: filled with the row before",)
    cut = read_table(path, "time", step="60min", on_gap="segment")
    assert cut.breaks.tolist() == [2, 4] and cut.values[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert cut.notes == (f"{told}: nothing looks, or holds a position, across one",)
    assert len({series.sha256 for series in (filled, cut, read_table(path, "time"))}) == 3
    whole = read_table(write(tmp_path, hours("0", "2", "4")), "time", step=2)
    assert whole.index.tolist() == [0, 2, 4] and whole.notes == ()


@pytest.mark.parametrize(
    ("text", "step", "message"),
    [
        (hours("2020-01-01T00:00", "2020-01-01T00:40"), "1h", "off the grid of env.step=1h that begins"),
        (hours("2020-01-01", "2020-02-01"), "24", "is one of times, which env.step=24 does not fit"),
        (hours("1", "2"), "1h", "is one of numbers, which env.step=1h does not fit"),
        (hours("2020-03-29T01:00", "2020-03-29T03:00"), "1h", "clock was put forward that night, no hour"),
        (hours("2020-01-01", "2020-02-01", "2020-02-02"), "1d", "comes after 2020-01-01: 30 rows missing"),
    ],
)  # fmt: skip
def test_rows_that_are_not_a_step_apart_are_refused(
    tmp_path: Path, text: str, step: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, text), "time", step=step)


def test_a_gap_too_long_to_fill_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, hours("2020-01-01T00:00:00", "2020-01-01T00:00:01", "2020-01-02T00:00:00"))
    with pytest.raises(DataError, match=r"too many to fill, env\.on_gap=segment leaves them out"):
        read_table(path, "time", step="1s", on_gap="ffill")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "1 month"}, "step is 1 month: it must be a time such as 1h"),
        ({"step": "0h"}, "step is 0h"),
        ({"on_gap": "ffill"}, "on_gap=ffill has no effect without env.step"),
        ({"on_gap": "drop", "step": "1h"}, "on_gap is drop: it must be one of refuse, ffill, segment"),
        ({"where": "BTC"}, "where is BTC: give it as {column: value}"),
    ],
)
def test_configs_of_tables_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    assert any(message in problem for problem in violations(replace(shipped(), **changes)))


CELLS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        [
            "1e400",
            "-0",
            "+5",
            ".5",
            "5.",
            "1E5",
            " 7 ",
            "1e-400",
            "\u0661",
            "1e5f",
            "0x10",
            "1_0",
            "1 0",
            "--1",
        ]
    ),
)


@settings(max_examples=150, deadline=None)
@given(cells=st.lists(CELLS, min_size=2, max_size=6))
def test_a_file_is_read_at_once_as_it_is_row_by_row(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str]
) -> None:
    raw = "t,x\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
    table = Cells(Path("some.csv"), raw.encode())
    at_once = table._at_once([0], [1])
    try:
        slow: Any = table._row_by_row([0], [1])
    except DataError:
        slow = None
    if at_once is not None:
        assert slow is not None and at_once[1].tobytes() == slow[1].tobytes()
        assert at_once[0][0].tolist() == slow[0][0].tolist()


@settings(max_examples=100, deadline=None)
@given(
    stamps=st.lists(
        st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)), min_size=2, max_size=8, unique=True
    ),
    form=st.sampled_from(["auto", "seconds", "minutes", "microseconds"]),
)
def test_stamps_are_read_as_python_reads_them(
    tmp_path_factory: pytest.TempPathFactory, stamps: list[Any], form: str
) -> None:
    texts = [stamp.isoformat(timespec=form) for stamp in sorted(stamps)]
    if len(set(texts)) < len(texts):
        return
    found = read_table(write(tmp_path_factory.mktemp("t"), hours(*texts)), "time").index
    assert found.tolist() == np.array(texts, "datetime64[us]").astype("datetime64[ns]").tolist()


def test_parquet_needs_its_package_or_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, b"PAR1 and so on", "my.parquet")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(
            DataError, match=r"my.parquet: reading Parquet needs PyArrow: pip install 'rlrun\[parquet\]'"
        ):
            read_table(path, "time")
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    with pytest.raises(DataError, match="cannot be read"):
        read_table(path, "time")
    plain = read_table(write(tmp_path, GOOD), "time")
    columns = {"time": plain.index, "close": plain.values[:, 0], "volume": plain.values[:, 1].astype(int)}
    parquet.write_table(pyarrow.table(columns), path)
    assert read_table(path, "time").sha256 == plain.sha256
    long = {"time": plain.index.repeat(2), "symbol": ["BTC", "ETH"] * 4, "close": np.arange(8.0)}
    parquet.write_table(pyarrow.table(long), path)
    with pytest.raises(DataError, match=r"env\.where=\{symbol: BTC\} takes those of one of BTC, ETH"):
        read_table(path, "time")
    assert read_table(path, "time", where={"symbol": "ETH"}).values[:, 0].tolist() == [1.0, 3.0, 5.0, 7.0]
    columns["close"] = np.where(columns["close"] == 11, np.nan, columns["close"])
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match="row 2, column close: nan is not a finite number"):
        read_table(path, "time")


def test_the_page_of_tables_says_what_is_said() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tables.md").read_text().splitlines()
    assert [line for line in tables.page() if line not in page] == []


def test_a_table_is_read_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlrun.envs import series as module

    path = write(tmp_path, GOOD)
    config = replace(shipped(), path=str(path), lookback=1)
    read: list[Path] = []

    def counted(path: Path, *args: Any, **more: Any) -> Series:
        read.append(path)
        return read_table(path, *args, **more)

    monkeypatch.setattr(module, "read_table", counted)
    module._read.cache_clear()
    made = [envs.make(config, n) for n in (1, 3, 5)]
    assert len(read) == 1 and made[0]._table is made[2]._table
    path.write_text(GOOD.replace("13", "14"))
    assert envs.make(config, 1)._table is not made[0]._table and len(read) == 2


def test_shipped_series_are_as_they_were() -> None:
    names = {path.name.removesuffix(".csv.gz"): path for path in SHIPPED.glob("*.csv.gz")}
    rows = {name: len(read_table(path, "time").index) for name, path in names.items()}
    assert rows == {
        "wti_daily": 8321, "electricity_hourly": 26304, "renewables_hourly": 8220, "retail_daily": 739,
    }  # fmt: skip
    hourly = read_table(names["electricity_hourly"], "time", step="1h")
    assert hourly.notes == () and not len(hourly.breaks)
