"""Hostile Parquet files and folders of Hugging Face `datasets` for the target `source` of `fuzz_campaign.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from hostile_inputs import TOKENS, VALUES, changed, damaged, rows_of, settings_of

MANY = 2 * 10**6  # rows without content
FILES = ("../../etc/passwd", "/etc/passwd", "..", ".", "", "a\0b", "a" * 4000, "x\ny.arrow", "nowhere.arrow")


def write_parquet(rng: Random, where: Path) -> Any:
    """Write Parquet files with hostile types, rows, metadata or bytes."""
    from compress.data.arrow import ArrowData

    for split in ("train", "test"):
        name = rng.choice((split, split, split, f"{split}\n", f"{split}\x1b[2J", f"-{split}"))
        (where / f"{name}.parquet").write_bytes(_many("parquet") if rng.random() < 0.02 else _parquet(rng, split))
    return ArrowData(source="parquet", path=str(where), **_settings(rng))


def write_saved(rng: Random, where: Path) -> Any:
    """Write a folder as `datasets` saves it, with hostile metadata or Arrow files."""
    from compress.data.arrow import ArrowData

    about: Any = {"splits": ["train", "test"]}
    for split in about["splits"]:
        (where / split).mkdir()
        (where / split / "data.arrow").write_bytes(_many("arrow") if rng.random() < 0.02 else _arrow(rng, split))
        state: Any = {"_data_files": [{"filename": "data.arrow"}], "_fingerprint": "0"}
        if rng.random() < 0.06:
            state["_data_files"] = [{"filename": rng.choice(FILES)}]
        elif rng.random() < 0.02:
            state["_data_files"] *= 10**5
        elif rng.random() < 0.06:
            state = changed(state, rng, 1)
        _write_json(rng, where / split / "state.json", state)
    _write_json(rng, where / "dataset_dict.json", changed(about, rng, 1) if rng.random() < 0.08 else about)
    path = rng.choice((where, where, where, where, where / "train"))
    return ArrowData(source="hf-dataset", path=str(path), **_settings(rng))


def _settings(rng: Random) -> dict[str, Any]:
    label, image = rng.choice(("label",) * 20 + ("image",)), rng.choice(("image",) * 20 + ("label",))
    return settings_of(rng, label=label, image=image, split=rng.choice((None,) * 15 + ("split",) * 4 + ("nowhere",)))


def _write_json(rng: Random, file: Path, value: Any) -> None:
    text = json.dumps(value) if rng.random() < 0.99 else rng.choice(("[" * 100_000, '{"a":' * 50_000, "[]", "{", "\0"))
    file.write_bytes(damaged(text.encode(), rng) if rng.random() < 0.02 else text.encode())


def _table(rng: Random, split: str) -> Any:
    """Return a table; now and then each column has another type."""
    import pyarrow as pa

    rows = [row for row in rows_of(rng) if row[0] == split]
    labels: list[Any] = [label for _, label, _ in rows]
    contents = [content for _, _, content in rows]
    kind: Any = pa.int64()
    if rng.random() < 0.2:
        kind, hostile = rng.choice(_labels())
        labels = [hostile if rng.random() < 0.3 else label for label in labels]
        labels = [str(label) if kind in (pa.string(), pa.large_string()) else label for label in labels]
    columns = {"image": _images(rng, contents), "label": _array(labels, kind), "split": pa.array([split] * len(rows))}
    if rng.random() < 0.1:
        columns["split"] = _array([rng.choice(VALUES) for _ in rows], rng.choice((pa.string(), pa.float64())))
    table = pa.table(columns)
    if rng.random() < 0.03:
        table = table.rename_columns(rng.sample(["image", "label", "split", "label", rng.choice(TOKENS[:20])], 3))
    if rng.random() < 0.3:
        names = rng.choice((["a", "b"], ["a", "a"], [], None, "ab", 7, ["a", None], ["<script>\n", "b"], ["x"] * 10**5))
        features = {"label": {"names": names}}
        told = json.dumps(changed({"info": {"features": features}}, rng, rng.choice((0, 0, 1))))
        told = rng.choice((told, told, told, "[" * 100_000))
        table = table.replace_schema_metadata({"huggingface": told})
    return table


def _labels() -> list[tuple[Any, Any]]:
    """Return types of the label column, each with a hostile value."""
    import pyarrow as pa

    whole = [(kind, value) for kind, value in ((pa.int8(), -5), (pa.int64(), 2**62), (pa.uint64(), 2**64 - 1))]
    texts = [
        (kind, value) for kind in (pa.string(), pa.large_string()) for value in ("x\ny", "9" * 5000, "²", "a" * 5000)
    ]
    others = [(pa.float64(), float("nan")), (pa.bool_(), None), (pa.null(), None), (pa.binary(), b"\xff")]
    return [*whole, *texts, *others, (pa.int64(), None), (pa.list_(pa.int64()), None), (pa.decimal128(38), None)]


def _array(values: list[Any], kind: Any) -> Any:
    """Return an array of a type, with null for values that do not fit."""
    import pyarrow as pa

    kept = []
    for value in values:
        try:
            pa.scalar(value, kind)
            kept.append(value)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            kept.append(None)
    made = pa.array(kept, kind)
    return made.dictionary_encode() if pa.types.is_string(kind) and len(kept) % 2 == 0 else made


def _images(rng: Random, contents: list[bytes]) -> Any:
    """Return a column of images, or of something else under its name."""
    import pyarrow as pa

    paths = ["/etc/passwd", "/dev/zero", "/proc/self/mem", "x.png"]
    rows = [{"bytes": content, "path": rng.choice(paths)} for content in contents]
    match rng.randrange(40):
        case 0:
            return pa.array([{**row, "bytes": row["path"]} for row in rows])  # text where bytes should be
        case 1:
            return pa.array([{**row, "bytes": 5} for row in rows])
        case 2:
            return pa.array([{**row, "bytes": None} for row in rows])
        case 3:
            return pa.array([row["path"] for row in rows])
        case 4:
            return pa.array(contents).dictionary_encode()
        case 5:
            return pa.array([[content] for content in contents])
        case 6:
            return pa.array([None if rng.random() < 0.3 else row for row in rows])
        case 7:
            return pa.array([bytes(rng.choice((1, 10**7))) for _ in contents])
        case 8:
            return pa.array(contents, pa.large_binary())
        case _:
            return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def _parquet(rng: Random, split: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = pa.BufferOutputStream()
    packed = rng.choice(("none", "snappy", "zstd", "gzip"))
    pq.write_table(_table(rng, split), out, compression=packed, row_group_size=rng.choice((3, 1000)))
    return _spoilt(rng, out.getvalue().to_pybytes())


def _arrow(rng: Random, split: str) -> bytes:
    import pyarrow as pa

    table, out = _table(rng, split), pa.BufferOutputStream()
    packed = pa.ipc.IpcWriteOptions(compression=rng.choice((None, None, "lz4", "zstd")))
    new: Callable[..., Any] = rng.choice((pa.ipc.new_stream,) * 20 + (pa.ipc.new_file,))
    with new(out, table.schema, options=packed) as writer:
        writer.write_table(table, max_chunksize=5)
    return _spoilt(rng, out.getvalue().to_pybytes())


def _spoilt(rng: Random, data: bytes) -> bytes:
    """Damage the structure of bytes: cut them off, or change numbers in them, such as lengths and offsets."""
    match rng.randrange(15):
        case 0:
            return damaged(data, rng)
        case 1:
            return data[: rng.randrange(len(data))]
        case 2:
            spoilt = bytearray(data)
            for _ in range(rng.choice((1, 1, 2, 8))):
                at = rng.randrange(max(1, len(data) - 8))
                size = rng.choice((1, 4, 8))
                number = rng.choice((0, 1, 2**31 - 1, 2**31, 2**62, 2**64 - 1, 7)) % 2 ** (8 * size)
                spoilt[at : at + size] = number.to_bytes(size, "little")
            return bytes(spoilt)
        case _:
            return data


@cache
def _many(kind: str) -> bytes:
    """Return a small file that claims to have millions of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = pa.BufferOutputStream()
    nothing = pa.StructArray.from_arrays([pa.nulls(MANY)], ["bytes"])
    if kind == "parquet":
        pq.write_table(pa.table({"image": pa.nulls(MANY, pa.binary()), "label": pa.nulls(MANY, pa.int64())}), out)
    else:
        batch = pa.record_batch([nothing, pa.nulls(MANY)], ["image", "label"])
        with pa.ipc.new_stream(out, batch.schema) as writer:
            writer.write_batch(batch)
    return out.getvalue().to_pybytes()
