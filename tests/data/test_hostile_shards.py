"""Tables and shards that say of themselves what is not so."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compress.data import archive
from compress.data.arrow import ArrowData
from compress.data.csv_file import CsvData
from compress.data.parallel import BLOCK_BYTES, in_blocks
from compress.data.prepared import prepare
from compress.data.sources import data_key
from compress.data.splits import counts_after_test
from compress.data.webdataset import WebData
from compress.scaffold.survey import survey_images
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError

_OUT = io.BytesIO()
Image.new("RGB", (8, 8)).save(_OUT, "PNG")
PNG = _OUT.getvalue()


def tar(*members: tuple[str, bytes], **fields: Any) -> bytes:
    """A tar of these members; `fields` are of the first one's header."""
    out = io.BytesIO()
    for number, (name, content) in enumerate(members):
        head = tarfile.TarInfo(name)
        head.size = len(content)
        for field, value in fields.items() if number == 0 else ():
            setattr(head, field, value)
        out.write(head.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
    return out.getvalue() + bytes(1024)


def names_in(file: Path) -> list[str]:
    with archive.open_archive(file) as found:
        return [member.name for member in found.members()]


def test_a_packed_tar_that_holds_too_much_is_refused(tmp_path, monkeypatch) -> None:
    whole, file = tar(("a.png", bytes(50_000)), ("b.png", b"x")), tmp_path / "it.tar"
    file.write_bytes(gzip.compress(whole))
    assert names_in(file) == ["a.png", "b.png"]
    monkeypatch.setattr(archive, "MIN_LIMIT", 10_000)
    assert len(whole) > archive.MAX_RATIO * file.stat().st_size
    with pytest.raises(
        CompressError, match=r"it\.tar cannot be read: it decompresses to more than [\d,]+ bytes, 200 times"
    ):
        names_in(file)
    file.write_bytes(whole)  # what is not packed is as large as it is
    assert names_in(file) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"size": 2**40}, "cannot be read"),
        ({"size": -512}, "cannot be read"),
        ({"type": tarfile.GNUTYPE_LONGNAME, "size": 2**62}, "cannot be read"),
        ({"type": tarfile.GNUTYPE_SPARSE}, "not a plain file"),
    ],
)
def test_false_headers(tmp_path, fields, says) -> None:
    file = tmp_path / "it.tar"
    file.write_bytes(tar(("a.png", b"12"), ("b.png", b"3"), **fields))
    with pytest.raises(CompressError, match=says), archive.open_archive(file) as found:
        for member in found.members():
            found.content(member)
        found.check_end()


def test_a_tar_that_leads_back(tmp_path, monkeypatch) -> None:
    file = tmp_path / "it.tar"
    file.write_bytes(tar(("a.png", b"12"), ("b.png", b"3")))
    with archive.open_archive(file) as found:
        first = found.tar.next()
        monkeypatch.setattr(found.tar, "next", lambda: first)
        with pytest.raises(CompressError, match=r"it\.tar cannot be read: a member has the size"):
            list(found.members())


def test_a_link_in_a_tar_is_no_image(tmp_path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        data = tar(("0.png", b""), ("0.cls", b"0"), type=kind, linkname=str(secret))
        (tmp_path / "it.tar").write_bytes(data)
        with pytest.raises(UsageError, match="no labelled train images"):
            data_key(WebData(source="webdataset", path=str(tmp_path / "it.tar"), test=0.2), 0)


@pytest.mark.parametrize("label", ["[" * 100_000, '{"label": ' * 20_000, '{"label": 1' + "0" * 5000 + "}"])
def test_labels_that_are_too_deep_or_long(tmp_path, label) -> None:
    (tmp_path / "it.tar").write_bytes(tar(("0.png", b"x"), ("0.json", label.encode())))
    with pytest.raises(UsageError, match=r"it\.tar: 0\.json: not a JSON object with 'label'"):
        data_key(WebData(source="webdataset", path=str(tmp_path / "it.tar"), label="json.label", test=0.2), 0)


def test_a_label_of_thousands_of_digits_is_a_name(tmp_path) -> None:
    members = []
    for number, label in enumerate(("1", "1", "1", "9" * 5000, "9" * 5000, "9" * 5000)):
        members += [(f"{number}.png", b"x"), (f"{number}.cls", label.encode())]
    (tmp_path / "it.tar").write_bytes(tar(*members))
    settings = WebData(source="webdataset", path=str(tmp_path / "it.tar"), test=0.2)
    data_key(settings, 0)
    with pytest.raises(UsageError, match="is not one of the classes a, b"):
        data_key(settings.model_copy(update={"classes": ["a", "b"]}), 0)


def test_no_image_of_a_class_can_be_read(tmp_path) -> None:
    members = [
        (f"{row}.{kind}", value) for row in range(4) for kind, value in (("png", b"x"), ("cls", b"%d" % (row % 2)))
    ]
    (tmp_path / "train.tar").write_bytes(tar(*members))
    with pytest.raises(CompressError, match="cannot read any image"):
        survey_images(WebData(source="webdataset", path=str(tmp_path / "train.tar"), test=0.2))
    (tmp_path / "test.tar").write_bytes(tar(*members[:-4], ("2.png", PNG), ("2.cls", b"0"), *members[-2:]))
    with pytest.raises(UsageError, match="leaves no train image"):
        survey_images(WebData(source="webdataset", path=str(tmp_path)))


def test_names_do_not_break_the_line(tmp_path, store) -> None:
    (tmp_path / "x\n\x1b[2J.png").write_bytes(b"no image")
    (tmp_path / "it.csv").write_text('path,label\n"x\n\x1b[2J.png",a\n')
    settings = CsvData(source="csv", path=str(tmp_path / "it.csv"), test=0.2)
    with pytest.raises(UsageError) as caught:
        data_key(settings, 0)
    assert str(caught.value).isprintable()


def test_a_head_that_is_no_csv(tmp_path) -> None:
    (tmp_path / "it.csv").write_text("a" * 200_000 + ",path,label\n")
    with pytest.raises(UsageError, match=r"it\.csv:1: not valid CSV"):
        data_key(CsvData(source="csv", path=str(tmp_path / "it.csv")), 0)


def test_large_images_make_short_blocks(monkeypatch) -> None:
    monkeypatch.setattr("compress.data.parallel.BLOCK_BYTES", 100)
    assert BLOCK_BYTES > 2**20
    sizes: list[int] = []
    images = [b"x" * 60, b"x" * 60, b"x", b"x" * 200, b"x"]
    assert list(in_blocks(iter(images), len, sizes.append)) == [60, 60, 1, 200, 1]
    assert sizes == [2, 2, 1]


# --- Parquet and Hugging Face -------------------------------------------------------------------------------------


def test_bytes_that_are_text_are_no_path(tmp_path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"bytes": "/etc/passwd", "path": "x"}] * 4
    pq.write_table(pa.table({"image": rows, "label": [0, 0, 1, 1]}), tmp_path / "it.parquet")
    with pytest.raises(UsageError, match=r"the column 'image' is struct.*not bytes"):
        data_key(ArrowData(source="parquet", path=str(tmp_path / "it.parquet"), test=0.2), 0)


def test_more_rows_than_bytes(tmp_path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    many = {"image": pa.nulls(200_000, pa.binary()), "label": pa.nulls(200_000, pa.int64())}
    pq.write_table(pa.table(many), tmp_path / "it.parquet")
    with pytest.raises(CompressError, match=r"it\.parquet cannot be read: it has more rows than its [\d,]+ bytes"):
        data_key(ArrowData(source="parquet", path=str(tmp_path / "it.parquet"), test=0.2), 0)


def test_places_outside_of_an_arrow_file(tmp_path) -> None:
    pa = pytest.importorskip("pyarrow")

    images = pa.array([b"12345678"] * 8, pa.binary())
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "it.arrow"}]}))
    out = pa.BufferOutputStream()
    batch = pa.record_batch([images, pa.array([0, 1] * 4)], ["image", "label"])
    with pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    places = [b"".join(place.to_bytes(4, "little") for place in (*range(0, 64, 8), end)) for end in (64, 2**31 - 1)]
    whole = out.getvalue().to_pybytes()
    assert whole.count(places[0]) == 1
    (tmp_path / "it.arrow").write_bytes(whole.replace(*places))
    settings = ArrowData(source="hf-dataset", path=str(tmp_path), test=0.3, validation=0.3)
    with pytest.raises(CompressError, match=r"it\.arrow cannot be read"):
        prepare(settings, Store(tmp_path / "store"), 0)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("dataset_dict.json", '{"splits": 5}', "expected a list of distinct splits"),
        ("dataset_dict.json", '{"splits": ["train", "train"]}', "expected a list of distinct splits"),
        ("dataset_dict.json", "[" * 100_000, "cannot be read"),
        ("state.json", '{"_data_files": 5}', "expected a list of distinct data files"),
        ("state.json", '{"_indices_files": [{"filename": "x"}]}', r"is a selection of rows; save it again after"),
        ("state.json", '{"_data_files": [{"filename": ".."}]}', "expected a list of distinct data files"),
        (
            "state.json",
            '{"_data_files": [{"filename": "x"}, {"filename": "x"}]}',
            "expected a list of distinct data files",
        ),
        ("state.json", '{"_data_files": [{"filename": "nowhere"}]}', "nowhere cannot be read: No such file"),
        ("state.json", json.dumps({"_data_files": [{"filename": "a\0b"}]}), "cannot be read"),
        ("state.json", json.dumps({"_data_files": [{"filename": "a" * 4000}]}), "cannot be read: File name too long"),
    ],
)
def test_what_a_saved_folder_says_of_itself(tmp_path, name, text, says) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / name).write_text(text)
    with pytest.raises(CompressError, match=says) as caught:
        data_key(ArrowData(source="hf-dataset", path=str(tmp_path)), 0)
    assert str(caught.value).isprintable()


def test_a_long_class_name_makes_no_long_line() -> None:
    with pytest.raises(UsageError, match=r"leaves no train image of \[+\.\.\.; every class needs") as caught:
        counts_after_test([3, 1], ["a", "[" * 5000], 0.2)
    assert len(str(caught.value)) < 500


def test_a_class_name_that_no_file_can_hold(tmp_path) -> None:
    members = []
    for number, label in enumerate(("a", "a", "a", "\udcff", "\udcff", "\udcff")):
        members += [(f"{number}.png", b"x"), (f"{number}.json", json.dumps({"label": label}).encode())]
    (tmp_path / "it.tar").write_bytes(tar(*members))
    with pytest.raises(UsageError, match=r"the class name '\\udcff' is not valid text"):
        data_key(WebData(source="webdataset", path=str(tmp_path / "it.tar"), label="json.label", test=0.2), 0)
