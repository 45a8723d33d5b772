"""Tables of published points, in the column names that Epoch AI uses, and what happens to such files in practice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.gap.growth_fit import read_tables
from compress.gap.points import BEST_RATE, MAX_FILE, PETAFLOP_S_DAY, read_figure, read_points, read_year
from compress.utils.errors import UsageError

MODELS = """Model,Domain,Publication date,Training compute (FLOP),Training compute cost (2023 USD),Notes
AlexNet,Vision,2012-09-30,4.7e17,,2 GPUs
old,Vision,1998-11-01,2.8e12,,
blank,Language,2020-05-28,,5,
range,Language,2020-05-28,1e20-1e21,,
"named, with a comma",Language,2020-05-28,"314,000,000,000,000,000,000,000",,"a note
over two lines"
undated,Language,,1e22,,
month,Language,2022-04,2.5e24,,
odd,Language,soon,1e23,,
zero,Language,2021-01-01,0,,
nan,Language,2021-01-01,nan,,
short
"""


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_unusable_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    (points,) = read_points(table(tmp_path, MODELS), "models", 2010)
    assert points.names == ("AlexNet", "named, with a comma", "month")
    assert points.values == (4.7e17, 3.14e23, 2.5e24)
    assert points.years[0] == pytest.approx(2012.746, abs=0.003)
    assert points.rows == 11
    assert points.unused == {"before 2010": 1, "without a positive figure": 5, "without a readable date": 2}


@pytest.mark.parametrize(
    "heading",
    [
        "Training compute (FLOP)",
        "\ufefftraining COMPUTE [FLOP]",
        "Training compute (FLOPs) estimated",
    ],
)
def test_headings_may_be_renamed_and_moved(tmp_path: Path, heading: str) -> None:
    text = f"{heading},more,Publication Date (arXiv)\n1e18,x,2013-01-01\n"
    (points,) = read_points(table(tmp_path, text), "models", 2010)
    assert points.values == (1e18,) and points.unit == "FLOP"


def test_petaflop_days_are_turned_into_operations(tmp_path: Path) -> None:
    text = "System,Publication date,Training compute (petaflop/s-days)\nAlexNet,2012-09-30,0.0054\n"
    (points,) = read_points(table(tmp_path, text), "models", 2010)
    assert points.values == (pytest.approx(4.7e17, rel=0.01),)  # 470 PF, AI and Compute's appendix
    assert PETAFLOP_S_DAY == 8.64e19


def test_hardware_has_a_quantity_for_every_pair_of_columns(tmp_path: Path) -> None:
    text = (
        "Hardware name,Release date,Release price (USD),FP32 (single precision) performance (FLOP/s),TDP (W)\n"
        "A,2016-01-01,1000,1e13,250\nB,2017-01-01,,1.2e13,\n"
    )
    found = {points.quantity: points for points in read_points(table(tmp_path, text), "hardware", 2010)}
    assert found["FP32 rate"].values == (1e13, 1.2e13)
    assert found["energy efficiency, FP32"].values == (4e10,)
    assert found["price-performance, FP32"].values == (1e10,) and found["price-performance, FP32"].unit == "FLOP/s/USD"
    assert len(found) == 3, "there is no column of FP16"


FORMATS = """Hardware name,Release date,FP32 (single precision) performance (FLOP/s),\
FP16 (half precision) performance (FLOP/s),TF32 (TensorFloat-32) performance (FLOP/s),\
Tensor-FP16/BF16 performance (FLOP/s),Tensor-FP16 performance with FP16 accumulation (FLOP/s)
plain,2012-01-01,4,,,,
packed,2016-01-01,10,20,,,
crippled,2016-01-01,10,0.1,,,
tensor,2018-01-01,15,30,60,120,240
TPU,2018-01-01,,,,100,
"""


def test_the_best_rate_is_that_of_any_format_with_32_bit_accumulation(tmp_path: Path) -> None:
    found = {points.quantity: points for points in read_points(table(tmp_path, FORMATS), "hardware", 2010)}
    best = dict(zip(found[BEST_RATE].names, found[BEST_RATE].values, strict=True))
    assert best == {"plain": 4, "packed": 20, "crippled": 10, "tensor": 120, "TPU": 100}
    assert found["FP32 rate"].values == (4, 10, 10, 15)


def test_steps_are_ratios_within_a_chip(tmp_path: Path) -> None:
    found = {points.quantity: points for points in read_points(table(tmp_path, FORMATS), "steps", 2010)}
    packed, tensor = found["16 bits on ordinary units"], found["tensor cores for 16 bits"]
    assert dict(zip(packed.names, packed.values, strict=True)) == {"packed": 2, "crippled": 1, "tensor": 2}
    assert dict(zip(tensor.names, tensor.values, strict=True)) == {"tensor": 4}, "against the best without them"
    assert read_points(table(tmp_path, "Release date,FP32\n2012-01-01,4\n"), "steps", 2010) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its headings are missing"),
        ("a,b\n1,2\n", "its headings are 'a', 'b'"),
        ("Publication date,Training compute cost (2023 USD)\n2012-01-01,5\n", "no column of 'compute'"),
        ("Publication date,Price-performance\n2012-01-01,5\n", "no column of 'compute'"),
    ],
)
def test_a_table_without_the_columns_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"table\.csv") as caught:
        read_points(table(tmp_path, text), "models", 2010)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_that_is_too_large_or_too_short_to_fit(tmp_path: Path) -> None:
    path = table(tmp_path, "Publication date,Training compute (FLOP)\n2020-01-01,1e20\n")
    with pytest.raises(UsageError, match=r"table\.csv: .*") as caught:
        read_tables(path, None, 2010)
    assert "1 " in str(caught.value) and "\n" not in str(caught.value)
    with path.open("r+b") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(UsageError, match=r"table\.csv is larger than \d+ MiB: not a table of published points"):
        read_points(path, "models", 2010)


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00rubbish")
    with pytest.raises(UsageError, match="not a CSV file in UTF-8"):
        read_points(tmp_path / "table.csv", "models", 2010)
    with pytest.raises(UsageError, match="cannot be read"):
        read_points(tmp_path, "models", 2010)


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("2012-07-01", 2012 + 182 / 366),
        (" 2012/07/01 ", 2012 + 182 / 366),
        ("2012-07-01T08:00:00+00:00", 2012 + 182 / 366),
        ("2012-07-01 08:00", 2012 + 182 / 366),
        ("2013-07", 2013 + 181 / 365),
        ("2012", 2012),
        ("2019-2021", None),
        ("2012.07.01", None),
        ("2012-13", None),
        ("20120701", None),
        ("2012 to 2014", None),
    ],
)
def test_dates_are_read_whole_or_not_at_all(text: str, year: float | None) -> None:
    assert read_year(text) == (None if year is None else pytest.approx(year))


@given(st.text(max_size=30))
def test_any_cell_gives_a_figure_or_none(text: str) -> None:
    value, year = read_figure(text), read_year(text)
    assert value is None or 0 < value < float("inf")
    assert year is None or 0 < year < 10_000


@given(st.binary(max_size=300))
def test_any_file_gives_points_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "table.csv"
    path.write_bytes(b"Publication date,Training compute (FLOP)\n2012-01-01,1e18\n" + data)
    try:
        (points,) = read_points(path, "models", 2010)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert len(points.years) == len(points.values) >= 0
