"""The target `source` of `fuzz_campaign.py`: images in hostile tables and shards."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from hostile_inputs import TOKENS, VALUES, Finding, changed, damaged, rows_of, settings_of
from hostile_tables import write_parquet, write_saved

MAX_MESSAGE_LENGTH = 6000  # a path may have 4,096 letters
NAMES = ("x\ny.png", "a" * 4000 + ".png", "\x1b[2J.png", "-rf.png", "\u202egnp.png", "\udcff.png", "a\0b.png", "..", "")
OUTSIDE = ("/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", "../../../../../../etc/passwd", "/nowhere", ".")


def source(rng: Random, folder: Path) -> None:
    """Survey a hostile CSV, Parquet file, saved dataset or WebDataset as `init` does, and read it as a run does."""
    from compress.data.prepared import prepare
    from compress.scaffold.detect import detect_source
    from compress.scaffold.survey import survey_images
    from compress.store.store import Store
    from compress.utils.errors import CompressError

    where = folder / "data"
    where.mkdir()
    settings = rng.choice((write_csv, write_parquet, write_saved, write_tars))(rng, where)
    try:
        if rng.random() < 0.2:
            settings = detect_source(settings.path)
            survey_images(settings)
        prepare(settings, Store(folder / "store"), 0)
    except CompressError as error:
        if not str(error).isprintable() or len(str(error)) > MAX_MESSAGE_LENGTH:
            raise Finding(f"the message is not one clear line: {str(error)[:200]!r}") from error
        raise


# --- CSV ----------------------------------------------------------------------------------------------------------


def write_csv(rng: Random, where: Path) -> Any:
    """Write a table of paths and labels with hostile cells, paths, links, quotes or bytes."""
    from compress.data.csv_file import CsvData

    table = [["path", "label", "split"]]
    for number, (split, label, content) in enumerate(rows_of(rng)):
        (where / f"{number}.png").write_bytes(content)
        table.append([f"{number}.png", str(label), split])
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        row = rng.choice(table)
        row[rng.randrange(3)] = str(rng.choice((*VALUES, *NAMES, *OUTSIDE, "9" * 5000, "²", "٣", "-1")))
    if rng.random() < 0.1:
        (where / "link.png").symlink_to(rng.choice((*OUTSIDE, "link.png", "pipe")))
        os.mkfifo(where / "pipe")
        table.append([rng.choice(("link.png", "pipe")), "0", "train"])
    out = io.StringIO()
    csv.writer(out, delimiter=rng.choice(",,,;\t|"), lineterminator=rng.choice(("\n", "\r\n", "\r"))).writerows(table)
    text = out.getvalue()
    if rng.random() < 0.07:
        text = rng.choice(('"', "a" * 200_000 + ",", "\r", "path,path,", "\ufeff", "\n" * 10_000)) + text
    data = text.encode(rng.choice(("utf-8",) * 20 + ("utf-16",)), "surrogatepass")
    (where / "it.csv").write_bytes(damaged(data, rng) if rng.random() < 0.04 else data)
    split = rng.choice(("split", "split", None))
    return CsvData(source="csv", path=str(where / "it.csv"), split=split, **settings_of(rng))


# --- WebDataset ---------------------------------------------------------------------------------------------------


def write_tars(rng: Random, where: Path) -> Any:
    """Write tars with members that lead out, are malformed or have false sizes, hostile labels, or bombs."""
    from compress.data.webdataset import WebData

    kind = rng.choice(("cls", "txt", "json"))
    packed = rng.choice(tuple(PACKED))
    names: list[str] = []
    for split in ("train", "test"):
        name = rng.choice((split, split, split, f"{split}\n", f"-{split}", f"{split}{'é' * 90}", f"{split}\x1b[2J"))
        names.append(f"{name}.tar{packed}")
        data = _tar(rng, where, [row for row in rows_of(rng) if row[0] == split], kind)
        if rng.random() < 0.06:
            data = damaged(data, rng)
        data = (_bomb(packed) if packed and rng.random() < 0.02 else b"") + PACKED[packed](data)
        (where / names[-1]).write_bytes(damaged(data, rng) if rng.random() < 0.1 else data)
    if rng.random() < 0.1:
        _beside(rng, where, "train-x.tar")
    label = (
        rng.choice(("json.label",) * 10 + ("json.label.x", "json."))
        if kind == "json"
        else rng.choice((kind,) * 20 + ("png",))
    )
    path = rng.choice(
        (str(where), str(where), f"{where}/*", f"{where}/{{{names[0]},{names[1]}}}", f"{where}/{names[0]}")
    )
    return WebData(source="webdataset", path=path, label=label, **settings_of(rng))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lambda data: lzma.compress(data, preset=0),
}


@dataclass
class _Member:
    """A member of a tar: its header, which may be false, and what follows it."""

    head: tarfile.TarInfo
    content: bytes


def _tar(rng: Random, where: Path, rows: list[list[Any]], kind: str) -> bytes:
    members = []
    for number, (_, label, image) in enumerate(rows):
        value = {"cls": str(label), "txt": f"class {label}", "json": json.dumps({"label": label})}[kind]
        for ending, content in (("png", image), (kind, value.encode())):
            head = tarfile.TarInfo(f"{number:04}.{ending}")
            head.size = len(content)
            members.append(_Member(head, content))
    for _ in range(rng.choice((0, 0, 0, 1, 1, 3))):
        _spoil(rng, where, rng.choice(members), kind)
    if rng.random() < 0.3:
        outside = where.parent.parent.parent / f"escaped-{rng.randrange(10**6)}.png"
        members.append(_Member(tarfile.TarInfo(rng.choice((f"../../../{outside.name}", str(outside)))), b""))
    out = io.BytesIO()
    for member in members:
        kinds = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)
        out.write(member.head.tobuf(rng.choice(kinds), "utf-8", "surrogateescape"))
        out.write(member.content + bytes(-len(member.content) % tarfile.BLOCKSIZE))
    out.write(bytes(tarfile.BLOCKSIZE * rng.choice((2,) * 10 + (20, 0))))
    return out.getvalue()


def _spoil(rng: Random, where: Path, member: _Member, kind: str) -> None:
    outside = where.parent.parent.parent / f"escaped-{rng.randrange(10**6)}.png"
    head = member.head
    match rng.randrange(8):
        case 0:
            head.name = rng.choice((*NAMES, *TOKENS[:40], "0000.png", "a/" * 500))
        case 1:
            head.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE))
            head.linkname = rng.choice((*OUTSIDE, "0000.png", head.name, str(outside)))
        case 2:
            head.type = rng.choice((tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE, b"?"))
            head.devmajor, head.devminor = 1, 5
        case 3:
            head.size = rng.choice((2**33 - 1, 2**40, 2**62, 2**63, 2**80, 0, 1, 10**6))
        case 4:
            head.type = rng.choice(
                (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
            )
            head.size = rng.choice((head.size, 2**40, 2**63))
        case 5:
            numbers = ("9" * 400, "-1", "nan", "1e999", str(2**70), "", "\0")
            names = (
                "size",
                "path",
                "mtime",
                "linkpath",
                "uid",
                "GNU.sparse.major",
                "GNU.sparse.map",
                "GNU.sparse.size",
            )
            head.pax_headers = {rng.choice(names): rng.choice((*numbers, *TOKENS[:40]))}
        case 6:
            member.content = _label(rng) if head.name.endswith(kind) else bytes(10**6)
            head.size = len(member.content)
        case _:
            member.content = damaged(member.content, rng)
            head.size = len(member.content)


def _label(rng: Random) -> bytes:
    """Return a member to lie beside an image, which is hardly a label."""
    value = {"label": rng.choice(VALUES)} if rng.random() < 0.5 else changed({"label": 1}, rng, 2)
    texts = ("9" * 5000, "-1", "²", "٣", "[" * 100_000, '{"label":' * 5000, "x" * 2**21, "\0", json.dumps(value))
    return rng.choice(texts).encode("utf-8", "surrogatepass")


def _bomb(packed: str) -> bytes:
    """Return packed members of 128 MiB each, some gigabytes in total; packed files can be concatenated."""
    parts = []
    for number in range(24):
        head = tarfile.TarInfo(f"bomb{number}.png")
        head.size = 2**27
        parts += [PACKED[packed](head.tobuf()), _zeros(packed)]
    return b"".join(parts)


@cache
def _zeros(packed: str) -> bytes:
    return PACKED[packed](bytes(2**27))


def _beside(rng: Random, where: Path, name: str) -> None:
    """Put something among the shards that is not one."""
    match rng.randrange(4):
        case 0:
            (where / name).symlink_to(rng.choice((*OUTSIDE, name)))
        case 1:
            os.mkfifo(where / name)
        case 2:
            (where / name).mkdir()
        case _:
            (where / "up").symlink_to("..")
