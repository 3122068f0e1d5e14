"""Conversion of uploads to Parquet."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymill.data.errors import BadTable, UnknownTableFormat, UnreadableTable
from raymill.data.statistics import TableProfile
from raymill.data.tables import to_parquet

# Larger than one block of the reader, so that what follows contradicts what the first block showed.
FIRST_BLOCK = 3 << 20


def convert(folder: Path, content: bytes, filename: str = "table.csv") -> tuple[TableProfile, pa.Table]:
    source, target = folder / "upload", folder / "table.parquet"
    source.write_bytes(content)
    profile = to_parquet(source, filename=filename, target=target)
    return profile, pq.read_table(target)


def long_rows(row: bytes) -> bytes:
    return row * (FIRST_BLOCK // len(row) + 1)


def test_types_come_from_the_values(tmp_path: Path) -> None:
    profile, table = convert(tmp_path, b'n,x,word,day,yes\n1,2.5,"a,b",2020-01-01,true\n,,,2021-01-01,false\n')
    assert [str(type_) for type_ in table.schema.types] == ["int64", "double", "string", "date32[day]", "bool"]
    assert table.to_pylist()[1] | {"day": None} == {"n": None, "x": None, "word": None, "day": None, "yes": False}
    assert profile.schema()[0] == {"name": "n", "type": "int64", "nullable": True}


def test_tab_separated_values_are_read(tmp_path: Path) -> None:
    assert convert(tmp_path, b"a\tb\n1\t2\n", "table.TSV")[1].to_pylist() == [{"a": 1, "b": 2}]


@pytest.mark.parametrize(
    ("content", "first_row"),
    [
        (b"\xef\xbb\xbfa,b\n1,2\n", {"a": 1, "b": 2}),
        (b"a;b\n1;x,y\n", {"a": 1, "b": "x,y"}),
        (b"a;b\r\n1,5;-2,25\r\n2,5;3\r\n", {"a": 1.5, "b": -2.25}),
        (b"a;b\n1.5;2\n2,5 EUR;3\n", {"a": "1.5", "b": 2}),
        (b"a|b\n1|2\n", {"a": 1, "b": 2}),
        (b"a\tb\n1\t2\n", {"a": 1, "b": 2}),
        (b'"a;b;c",d\n1,2\n', {"a;b;c": 1, "d": 2}),
        (b"a\n1\n", {"a": 1}),
        (b'a,b\n"1,5",2\n', {"a": "1,5", "b": 2}),
    ],
    ids=["BOM", "semicolon", "decimal comma", "decimal point", "bar", "tab", "quoted", "one column", "comma wins"],
)
def test_the_header_shows_what_divides_the_fields(tmp_path: Path, content: bytes, first_row: dict[str, object]) -> None:
    assert convert(tmp_path, content)[1].to_pylist()[0] == first_row


def test_decimal_commas_may_come_late(tmp_path: Path) -> None:
    rows = b"1;2,5;" + b"k" * 100 + b"\n"
    _, table = convert(tmp_path, b"a;b;pad\n" + long_rows(rows) + b"1,5;2,5;k\n")
    assert (str(table.schema.field("a").type), table["a"][-1].as_py()) == ("double", 1.5)


def test_utf16_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match="save it as UTF-8"):
        convert(tmp_path, "a,b\n1,2\n".encode("utf-16"))


def test_a_quoted_line_break_belongs_to_its_value(tmp_path: Path) -> None:
    assert convert(tmp_path, b'a,b\n"x\ny",1\n')[1].to_pylist() == [{"a": "x\ny", "b": 1}]


@pytest.mark.parametrize(
    ("first", "last", "type_", "value"),
    [
        (b"1", b"2.5", "double", 2.5),
        (b"1", b"word", "string", "word"),
        (b"2.5", b"word", "string", "word"),
        (b"", b"7", "int64", 7),
        (b"", b"word", "string", "word"),
        (b"", b"true", "bool", True),
        (b"true", b"word", "string", "word"),
    ],
)
def test_a_later_block_may_contradict_the_first(
    tmp_path: Path, first: bytes, last: bytes, type_: str, value: object
) -> None:
    rows = long_rows(b"%s,%s\n" % (first, b"k" * 100))
    _, table = convert(tmp_path, b"a,pad\n" + rows + last + b",k\n")
    assert str(table.schema.field("a").type) == type_
    assert table.num_rows == rows.count(b"\n") + 1
    assert table["a"][-1].as_py() == value


def test_a_contradiction_leaves_the_other_columns_alone(tmp_path: Path) -> None:
    rows = long_rows(b"1,2020-01-01,%s\n" % (b"k" * 100))
    _, table = convert(tmp_path, b"a,day,pad\n" + rows + b"2.5,2020-01-02,k\n")
    assert [str(type_) for type_ in table.schema.types] == ["double", "date32[day]", "string"]


def test_an_empty_column_is_kept_as_text(tmp_path: Path) -> None:
    _, table = convert(tmp_path, b"a,b\n1,\n2,\n")
    assert (str(table.schema.field("b").type), table["b"].null_count) == ("string", 2)


@pytest.mark.parametrize(
    ("content", "details"),
    [
        (b"a,b\n1,2\n3,4,5\n", {"row": 3}),
        (b"a,b\n" + b"1,2\n" * 3_000_000 + b"3\n", {"row": 3_000_002}),
        (b"", {}),
        (b"a\xff,b\n1,2\n", {}),
        (b'a\n"' + b"x" * 3 * FIRST_BLOCK, {}),
    ],
    ids=["ragged", "ragged late", "empty", "name not UTF-8", "open quote"],
)
def test_a_broken_csv_is_refused_by_row(tmp_path: Path, content: bytes, details: dict[str, int]) -> None:
    with pytest.raises(UnreadableTable) as refused:
        convert(tmp_path, content)
    assert refused.value.details == details


@pytest.mark.parametrize(
    ("content", "details"),
    [
        (b"a,b\n", {}),
        (b"a,a\n1,2\n", {"column": "a"}),
        (b",a\n1,2\n", {"column": 1}),
        (b"a,b\n1,\xff\n", {"column": "b"}),
        (b"a\n" + b"1\n" * 5_000_000 + b"\xff\n", {"column": "a"}),
        (",".join(f"c{n}" for n in range(10_001)).encode() + b"\n" + b"1," * 10_000 + b"1\n", {}),
    ],
    ids=["no rows", "same name", "no name", "not UTF-8", "not UTF-8 late", "too many"],
)
def test_a_table_that_cannot_be_kept_is_refused_by_column(
    tmp_path: Path, content: bytes, details: dict[str, object]
) -> None:
    with pytest.raises(BadTable) as refused:
        convert(tmp_path, content)
    assert refused.value.details == details


def test_parquet_is_kept_without_the_metadata_of_its_maker(tmp_path: Path) -> None:
    table = pa.table({"a": [1, None], "b": ["x", "y"]}).replace_schema_metadata({"secret": "note"})
    pq.write_table(table, tmp_path / "given.parquet")
    profile, kept = convert(tmp_path, (tmp_path / "given.parquet").read_bytes(), "given.parquet")
    assert kept.to_pylist() == table.to_pylist()
    assert kept.schema.metadata is None
    assert profile.row_count == 2


@pytest.mark.parametrize("content", [b"no parquet at all", b"PAR1" + b"\0" * 64 + b"PAR1"])
def test_broken_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableTable):
        convert(tmp_path, content, "table.parquet")


def test_damaged_pages_of_parquet_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [f"word {n}" for n in range(10_000)]}), tmp_path / "given", compression="zstd")
    content = bytearray((tmp_path / "given").read_bytes())
    content[200:2000] = b"\xff" * 1800
    with pytest.raises(UnreadableTable):
        convert(tmp_path, bytes(content), "table.parquet")


def test_bytes_in_parquet_are_refused_by_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"\xff\x00"]}), tmp_path / "given")
    with pytest.raises(BadTable, match="image"):
        convert(tmp_path, (tmp_path / "given").read_bytes(), "table.parquet")


@pytest.mark.parametrize("filename", ["table.xlsx", "table", ".csv.zip"])
def test_other_formats_are_refused(tmp_path: Path, filename: str) -> None:
    with pytest.raises(UnknownTableFormat):
        convert(tmp_path, b"a\n1\n", filename)


def test_equal_uploads_give_equal_files(tmp_path: Path) -> None:
    source = tmp_path / "upload"
    source.write_bytes(b"a,b\n1,x\n2,y\n")
    for name in ("one", "two"):
        to_parquet(source, filename="t.csv", target=tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
