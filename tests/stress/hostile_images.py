"""Image targets of `fuzz_campaign.py`: single files, and folders."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from random import Random

from hostile_inputs import Finding, damaged, images, png_bomb


def image(rng: Random, folder: Path) -> None:
    """Decode one image file."""
    from compress.data.image_io import decode

    ending, data = rng.choice(list(images(rng).items()))
    name = rng.choice((f"it.{ending}", "it.jpg", f"-\n{rng.choice(('é', '‮', 'a' * 200))}.{ending}"))
    data = png_bomb(rng) if rng.random() < 0.05 else damaged(data, rng)
    (folder / name).write_bytes(data)
    pixels = decode(folder / name, 32)
    if pixels.shape != (3, 32, 32):
        raise Finding(f"decoded to {pixels.shape}")


def tree(rng: Random, folder: Path) -> None:
    """Read a folder of images with odd names, links, pipes or depth."""
    from compress import registry
    from compress.data.folder import FolderData

    good = images(rng)["png"]
    names = ("a", rng.choice(("b", "-b", "b\nc", "é" * 100, "ü", "<script>", "b" * 255)))
    for part in ("train", "test"):
        for name in names:
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(12):
                (folder / part / name / f"{number}.png").write_bytes(good)
    where = folder / rng.choice(("train", "test")) / "a"
    match rng.randrange(9):
        case 0:
            (where / "out.png").symlink_to(
                rng.choice(("/etc/passwd", "/dev/zero", "/dev/stdin", "/nowhere", "out.png"))
            )
        case 1:
            (where / "up").symlink_to(rng.choice(("..", "../..", "/proc/self", "up", str(folder))))
        case 2:
            os.mkfifo(where / "pipe.png")
        case 3:
            _deep(where, rng.choice((50, 900, 2000)), rng.choice(("d", "d" * 200)))
        case 4:
            (where / rng.choice(("x\n.png", "-rf.png", "a" * 251 + ".png", "‮gnp.png", "\udcff.png"))).write_bytes(good)
        case 5:
            (where / "folder.png").mkdir()
        case 6:
            (where / "bad.png").write_bytes(damaged(good, rng))
        case 7:
            shutil.rmtree(where)
        case _:
            (folder / "fifo").mkdir()
            os.mkfifo(folder / "fifo" / "it")
            (where / "pipe.png").symlink_to(folder / "fifo" / "it")
    settings = FolderData(
        source="image-folder", path=str(folder), resolution=16, broken=rng.choice(("refuse", "skip")), validation=0.2
    )
    source = registry.source(settings.source)
    source.contents(settings, None)
    scratch = folder / "scratch"
    scratch.mkdir()
    source.read(settings, scratch)


def _deep(folder: Path, levels: int, name: str) -> None:
    """Nest folders deeper than a path may be long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.mknod("it.png", 0o600 | stat.S_IFREG, dir_fd=here)
    os.close(here)
