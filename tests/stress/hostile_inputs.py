"""Hostile inputs for `fuzz_campaign.py`: each follows from its random generator alone."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
CANARY = "canary"


class Finding(Exception):
    """Raised when the program does what it must not do."""


TOKENS = (
    *(
        "\0",
        "\ufeff",
        "\u202e",
        "\x85",
        "\r",
        "\t",
        "\n",
        "'",
        '"',
        "`",
        "|",
        "]]>",
        "-->",
        "${7*7}",
        "{{7*7}}",
        "%s%n",
    ),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)", "[x](javascript:alert(1))"),
    *(
        "../../../etc/passwd",
        "/etc/passwd",
        "..",
        "-rf",
        "a" * 5000,
        "!!python/name:os.system",
        "&a [*a]",
        "*a",
        "<<: *a",
    ),
    *("1e999", "-1e999", "NaN", "Infinity", "9" * 4400, "0x" + "f" * 99, "1_000", "null", "~", "yes", "2012-01-01"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.0, -0.0, 1e308, -1e308, 1e-308, 2**31, 2**63, 2**64, 10**400, 0.5, 1.5),
    *(float("nan"), float("inf"), [], {}, [[]], [None], {"": None}, {"value": {}}, [1, 2], "", "x", *TOKENS),
)


def damaged(data: bytes, rng: Random) -> bytes:
    """Change bytes in a few places: flip, cut, double, move, or insert a hostile token."""
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        end = min(end, at + rng.choice((1, 4, 64, 4096)))
        token = rng.choice(TOKENS).encode("utf-8", "surrogatepass")
        middle = rng.choice((b"", rng.randbytes(max(1, min(end - at, 64))), token, data[at:end] * 2, b"\xff" * 4))
        data = data[:at] + middle + (b"" if rng.random() < 0.05 else data[end:])
    return data


def _value(rng: Random) -> Any:
    return deepcopy(rng.choice(VALUES))  # some are changed further


def changed(value: Any, rng: Random, times: int) -> Any:
    """Put hostile values at some places of plain data; a key may become hostile, too."""
    value = json.loads(json.dumps(value))
    for _ in range(times):
        holder, key, at = None, None, value
        while isinstance(at, dict | list) and at and (holder is None or rng.random() < 0.85):
            holder, key = at, rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
            at = at[key]
        if holder is None:
            return _value(rng)
        new = _value(rng)
        if rng.random() < 0.1:
            del holder[key]
        elif rng.random() < 0.1 and isinstance(holder, dict):
            holder[str(rng.choice(TOKENS))] = holder.pop(key)
        else:
            holder[key] = f"{at}{new}" if isinstance(at, str) and rng.random() < 0.5 else new
    return value


def of_schema(schema: dict[str, Any], root: dict[str, Any], rng: Random, depth: int = 0) -> Any:
    """Return a value of a JSON Schema, now and then a hostile one instead."""
    if rng.random() < 0.03 or depth > 12:
        return _value(rng)
    if "$ref" in schema:
        return of_schema(root["$defs"][schema["$ref"].rpartition("/")[2]], root, rng, depth)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return of_schema(rng.choice(schema[union]), root, rng, depth)
    if "const" in schema or "enum" in schema:
        return schema.get("const", rng.choice(schema.get("enum", [None])))
    kind = schema.get("type")
    if kind == "object":
        properties, needed = schema.get("properties", {}), schema.get("required", ())
        chosen = {name: part for name, part in properties.items() if name in needed or rng.random() < 0.3}
        return {name: of_schema(part, root, rng, depth + 1) for name, part in chosen.items()}
    if kind == "array":
        count = rng.choice((schema.get("minItems", 0), 1, 2, 3))
        return [of_schema(schema.get("items", {}), root, rng, depth + 1) for _ in range(count)]
    plain = {
        "integer": rng.randrange(0, 200),
        "number": rng.choice((0.1, 0.5, 1.0, 3.0)),
        "boolean": rng.random() < 0.5,
    }
    words = ("teacher", "a", "b", "resnet18", "cifar10-sample", "embedded", "a photo of a {}.", rng.choice(TOKENS))
    return plain.get(kind, rng.choice(words))


def bomb(rng: Random, canary: Path) -> bytes:
    """Return a recipe that is one trick: tags, aliases, depth, numbers, bytes that are not text."""
    deep, many = rng.choice((31, 33, 500, 20_000)), rng.choice((3, 9, 30))
    aliases = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * many)}]\n" for n in range(1, 12))
    tags = ("python/object/apply:os.mkdir", "python/object/new:os.mkdir", "python/object/apply:os.makedirs")
    texts = (
        f"name: !!{rng.choice(tags)} [{canary}]\n",
        f"!!{rng.choice(tags)} [{canary}]",
        "data: " + "[" * deep,
        "data: " + "{a: " * deep,
        "".join(f"{' ' * n}a:\n" for n in range(min(deep, 900))),
        aliases,
        "&a [*a]",
        "a: &a {b: *a}",
        "seed: " + "9" * rng.choice((40, 41, 5000, 10**6)),
        "seed: 1e" + "9" * 50,
        "stages: [" + "{id: a, kind: train, student: resnet18}, " * rng.choice((1001, 30_000)) + "]",
        "? [a, b]\n: c",
        "<<: {seed: 1}",
        "--- a\n--- b",
        "%YAML 9.9\n---\na",
        "%TAG ! tag:x,2000:\n--- !y a",
    )
    return rng.choice((rng.choice(texts).encode(), rng.randbytes(rng.randrange(300)), b"\xff\xfea\0", b"a: \0"))


class _Runs:
    def __init__(self, call: str, argument: str) -> None:
        self.call, self.argument = call, argument

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return {"mkdir": os.mkdir, "makedirs": os.makedirs, "eval": eval, "exec": exec}[self.call], (self.argument,)


def hostile_pickle(rng: Random, canary: Path) -> bytes:
    """Return a pickle that creates the canary if it is unpickled."""
    code = f"__import__('os').mkdir({str(canary)!r})"
    call = rng.choice(("mkdir", "makedirs", "eval", "exec"))
    bad: Any = _Runs(call, str(canary) if call.startswith("m") else code)
    whole = rng.choice((bad, {"state_dict": bad}, [1, bad], {"a": {"b": bad}}))
    return pickle.dumps(whole, rng.randrange(6))


def hostile_safetensors(rng: Random, tensors: dict[str, list[int]]) -> bytes:
    """Return a `.safetensors` file with a false header: its length, shapes, offsets, types or names."""
    header: dict[str, Any] = {}
    at = 0
    for name, shape in tensors.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    name = rng.choice(list(header))
    entry = header[name]
    match rng.randrange(8):
        case 0:
            entry["shape"] = rng.choice(([2**62, 2], [10**30], [-1], [0], ["4"], None, [1] * 9000))
        case 1:
            entry["data_offsets"] = rng.choice(([0, 2**63], [at, 0], [-8, 8], [0, at], None, [0], [1, 5]))
        case 2:
            entry["dtype"] = rng.choice(("F9", "", None, 7, "BOOL", "F64", "C64"))
        case 3:
            del header[name]
        case 4:
            header[rng.choice(TOKENS)] = header.pop(name)
        case 5:
            header["__metadata__"] = rng.choice(({"classes": "["}, {"classes": 1}, [1], {"a": "b" * 10**6}))
        case 6:
            header = changed(header, rng, 2)
            header = header if isinstance(header, dict) else {"a": header}
        case _:
            entry["shape"], entry["data_offsets"] = [2**40], [0, 2**42]
    text = json.dumps(header).encode()
    length = rng.choice((len(text), len(text), len(text), 2**63, 2**64 - 1, 0, len(text) * 2, 100_000_001))
    return struct.pack("<Q", length) + text + bytes(min(at, 10**6))


def images(rng: Random) -> dict[str, bytes]:
    """Return one small image in each format."""
    from PIL import Image

    made = {}
    mode = rng.choice(("RGB", "RGB", "L", "RGBA", "P", "CMYK", "I;16", "1"))
    image = Image.frombytes("RGB", (24, 16), rng.randbytes(24 * 16 * 3))
    for ending, kind in (
        ("jpg", "JPEG"),
        ("png", "PNG"),
        ("webp", "WEBP"),
        ("tif", "TIFF"),
        ("gif", "GIF"),
        ("bmp", "BMP"),
    ):
        out = io.BytesIO()
        try:
            image.convert(mode).save(out, kind)
        except (OSError, ValueError):  # a format without this mode
            image.save(out, kind)
        made[ending] = out.getvalue()
    return made


def png_bomb(rng: Random) -> bytes:
    """Return a small file of many pixels, or one that claims so."""
    side = rng.choice((9000, 12_000, 30_000, 100_000, 2**31 - 1))
    rows = min(side, rng.choice((1, 500)))
    kind = rng.choice((0, 2, 6))
    header = struct.pack(">IIBBBBB", side, rng.choice((1, side)), 8, kind, 0, 0, 0)
    pixels = zlib.compress(bytes(rows * min(side, 30_000)), 9)
    text = b"comment\0\0" + zlib.compress(bytes(rng.choice((10, 50_000_000))), 9)
    chunks = ((b"IHDR", header), (b"zTXt", text), (b"IDAT", pixels), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def rows_of(rng: Random) -> list[list[Any]]:
    """Return `[split, label, content]` of images of two classes in two splits, some of them hostile."""
    good = images(rng)["png"]
    rows = [[split, label, good] for split in ("train", "test") for label in (0, 1) for _ in range(6)]
    for _ in range(rng.choice((0, 0, 0, 0, 1, 3))):
        rng.choice(rows)[2] = rng.choice((b"", damaged(good, rng), png_bomb(rng), b"/etc/passwd", rng.randbytes(99)))
    return rows


def settings_of(rng: Random, **settings: Any) -> dict[str, Any]:
    """Return settings of a recipe for a source."""
    return {
        "resolution": 16,
        "broken": rng.choice(("refuse", "skip")),
        "validation": 0.2,
        "test": rng.choice((None, 0.3)),
        "classes": rng.choice((*[None] * 6, ["a", "b"], ["a", "b"], ["1", "0"], ["a", "b", "c"])),
        **settings,
    }
