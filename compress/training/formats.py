"""Number formats and memory layouts of networks, chosen by a short timing on this machine (`precision: auto`)."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from compress.measurement.device import computes_half, device_of, forked_rng, numerics
from compress.training.matmul_conv import MatmulConvolutions
from compress.utils.console import say
from compress.utils.errors import first_line
from compress.utils.hashing import key_of
from compress.utils.json_cache import load_cache, save_cache
from compress.utils.system import gpu_ids, kind_of_processor

SECTION = "formats"  # of the store's `speeds.json`
REVISION = 2  # raised when timing changes
SPEEDUP = 1.25  # that another format must show, so that noise does not change a decision and with it the bits
CPU_IMAGES = 32  # of a timed pass on a CPU, where larger batches take as long per image
ROUNDS, LIMIT_S = 3, 5.0  # rounds of timings; none starts after this many seconds
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
WORDS: dict[Precision, str] = {"32-true": "FP32", "16-mixed": "FP16", "bf16-mixed": "bf16"}

Pass = Callable[[], object]
"""One training step or forward pass; returns when the device has done it."""

MakePass = Callable[["Format"], Pass]
Timer = Callable[[Mapping["Format", Pass]], Mapping["Format", float]]
"""Seconds of one pass, by format."""


@dataclass(frozen=True)
class Format:
    """How a network computes; images are channels_last in all formats.

    Attributes:
        precision: Lightning's name of the number format.
        channels_last: Whether the weights are channels_last.
        matmul: Whether convolutions with small output maps are computed as matrix products.
    """

    precision: Precision = "32-true"
    channels_last: bool = False
    matmul: bool = False

    def __str__(self) -> str:
        return f"{self.precision}, {self.layout}{', matmul' if self.matmul else ''}"

    @classmethod
    def parse(cls, text: str) -> Format:
        """Return the format whose `str` is `text`; another text is a `KeyError`."""
        known = (cls(*one) for one in product(WORDS, (False, True), (False, True)))
        return {str(one): one for one in known}[text]

    @property
    def layout(self) -> str:
        return "channels_last" if self.channels_last else "contiguous"

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def convolutions(self) -> AbstractContextManager[object]:
        """Return the context that a forward pass needs besides autocast."""
        return MatmulConvolutions() if self.matmul else nullcontext()

    @contextmanager
    def forward_context(self, device: torch.device) -> Iterator[None]:
        """Give a forward pass what it needs to compute in this format: autocast, and its convolutions."""
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"), self.convolutions():
            yield


class Choice(NamedTuple):
    """A format, and how many times as fast as the default it is."""

    format: Format
    speedup: float = 1.0


def candidates(device: torch.device, default: Format) -> list[Format]:
    """List the formats to time on a device, the default first."""
    if device.type not in ("cpu", "cuda"):
        return [default]
    precisions: tuple[Precision, ...] = ("32-true", "bf16-mixed") if computes_half(device)["bf16"] else ("32-true",)
    ways = [(False, False), (True, False), (True, True)] if device.type == "cpu" else [(False, False), (True, False)]
    every = [Format(precision, *way) for precision in precisions for way in ways]
    return [default, *(one for one in every if one != default)]


def time_passes(passes: Mapping[Format, Pass]) -> dict[Format, float]:
    """Return the seconds of the fastest pass of each format, timed in interleaved rounds after one of warming up."""
    seconds = dict.fromkeys(passes, float("inf"))
    started = time.perf_counter()
    for number in range(ROUNDS + 1):
        if number > 1 and time.perf_counter() - started > LIMIT_S:
            break
        for one, run in passes.items():
            before = time.perf_counter()
            run()
            if number:
                seconds[one] = min(seconds[one], time.perf_counter() - before)
    return seconds


class FormatChooser:
    """Chooses formats by timings, which are kept for this machine.

    Args:
        file: The store's `speeds.json`; without it, timings are kept as long as the chooser.
        timer: Measures passes; default: `time_passes`.
    """

    def __init__(self, file: Path | None = None, timer: Timer | None = None) -> None:
        self.file, self.timer = file, timer or time_passes
        self._known: dict[str, dict[str, float]] = {}

    def choose(
        self,
        identity: Mapping[str, object],
        formats: Sequence[Format],
        make_pass: MakePass,
        device: torch.device,
        label: str,
    ) -> Choice:
        """Return the fastest of `formats`, or the first, the default, unless another is `SPEEDUP` times as fast.

        Args:
            identity: What determines the timings besides machine and formats, as JSON data.
            formats: The formats to choose from.
            make_pass: Returns what is timed for a format. May draw random numbers, which changes no others.
            device: What it runs on.
            label: What the decision is for, in the line that is printed when it was timed.
        """
        if len(formats) == 1:
            return Choice(formats[0])
        machine = [*kind_of_processor(), torch.get_num_threads(), gpu_ids()]
        key = key_of(
            revision=REVISION, machine=machine, torch=torch.__version__, formats=list(map(str, formats)), **identity
        )
        self._known |= load_cache(self.file, SECTION, "formats are timed again")
        if key in self._known:
            return _fastest(formats, self._known[key])
        try:
            with forked_rng(device):
                timed = self.timer({one: make_pass(one) for one in formats})
        except RuntimeError as error:  # such as an operator without bf16, or too little memory
            say(f"  {label}: {WORDS[formats[0].precision]}, as timing of formats failed: {first_line(error)}")
            return Choice(formats[0])
        self._known[key] = {str(one): seconds for one, seconds in timed.items()}
        save_cache(self.file, SECTION, self._known)
        choice = _fastest(formats, self._known[key])
        say(f"  {label}: {_described(choice, formats, self._known[key])}")
        return choice


def _fastest(formats: Sequence[Format], seconds: Mapping[str, float]) -> Choice:
    best = min(formats, key=lambda one: seconds[str(one)])
    speedup = seconds[str(formats[0])] / seconds[str(best)]
    return Choice(best, speedup) if speedup >= SPEEDUP else Choice(formats[0])


def _described(choice: Choice, formats: Sequence[Format], seconds: Mapping[str, float]) -> str:
    """Describe a decision, e.g. "bf16 with contiguous weights, 1.9x FP32"."""
    default, chosen = formats[0], choice.format
    if chosen != default:
        against = _words(default) if chosen.precision == default.precision else WORDS[default.precision]
        return f"{_words(chosen)}, {choice.speedup:.1f}x {against}"
    other = min(formats[1:], key=lambda one: seconds[str(one)])
    ratio = seconds[str(default)] / seconds[str(other)]
    return f"{_words(default)} ({_words(other)}: {ratio:.2f}x)"


def _words(one: Format) -> str:
    small = " and small maps by matrix products" if one.matmul else ""
    return f"{WORDS[one.precision]} with {one.layout} weights{small}"


# --- what is timed ----------------------------------------------------------------------------------------------------


def structure(network: nn.Module) -> str:
    """Return a digest of a network's layers and sizes, without its weights."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(network))
    return key_of(text=text, sizes=[[list(p.shape), p.requires_grad] for p in network.parameters()])


def choose_for_steps(
    chooser: FormatChooser,
    network: nn.Module,
    side: int,
    batch: int,
    device: torch.device,
    label: str,
    *,
    tf32: bool = True,
) -> Choice:
    """Choose the format of training steps of `network` with images of `side` pixels, where FP32 may be TF32."""
    batch = _timed_images(batch, device)
    identity = {"use": "training", "network": structure(network), "side": side, "batch": batch}
    identity |= {} if tf32 else {"tf32": False}
    formats = candidates(device, Format(channels_last=device.type == "cuda"))
    with numerics(tf32=tf32, autotune=False, deterministic=False):
        steps = _steps(network, side, batch, device)
        return chooser.choose(identity, formats, steps, device, f"{label} at {side} pixels")


def choose_for_passes(
    chooser: FormatChooser,
    network: nn.Module,
    use: str,
    shape: tuple[int, int],
    formats: Sequence[Format],
    label: str,
    convert: Callable[[nn.Module, Format], nn.Module],
) -> Choice:
    """Choose one of `formats` for forward passes.

    Args:
        use: What the passes are for; other uses have other timings.
        shape: Images of a pass, and their side in pixels.
        convert: Returns the network to run in a format. Must not change what it is given.
    """
    (batch, side), device = shape, device_of(network)
    batch = _timed_images(batch, device)
    identity = {"use": use, "network": structure(network), "side": side, "batch": batch}

    def passes(one: Format) -> Pass:
        converted, images = convert(network, one), _images(batch, side, device)

        def forward() -> float:
            with torch.inference_mode(), one.forward_context(device):
                return float(converted(images).sum())  # waits for the device

        return forward

    return chooser.choose(identity, formats, passes, device, f"{label} at {side} pixels")


def with_layout(network: nn.Module, one: Format) -> nn.Module:
    """Return a copy of a network with the memory layout of a format."""
    return copy.deepcopy(network).to(memory_format=one.memory_format)


def _steps(network: nn.Module, side: int, batch: int, device: torch.device) -> MakePass:
    def make(one: Format) -> Pass:
        model, images = with_layout(network, one).train().to(device), _images(batch, side, device)

        def step() -> float:
            with one.forward_context(device):
                loss = model(images).float().square().mean()
            if loss.requires_grad:
                loss.backward()
            model.zero_grad()
            return float(loss.detach())  # waits for the device

        return step

    return make


def _timed_images(batch: int, device: torch.device) -> int:
    return min(batch, CPU_IMAGES) if device.type == "cpu" else batch


def _images(batch: int, side: int, device: torch.device) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
