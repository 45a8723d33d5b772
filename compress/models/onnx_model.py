"""Read a classifier that someone exported to ONNX, and give it the form that this package's own files have.

That is: one input `images` float32 `[batch, 3, r, r]` for any batch, one output `logits` float32 `[batch, classes]`,
named nodes, opset 13 or newer, no data outside of the file. The file is data: no code of it is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.measurement.onnx_count import tensor_shapes
from compress.models import onnx_rewrite
from compress.models.onnx_export import INPUT, OUTPUT, strip_metadata
from compress.models.onnx_opset import opset_of
from compress.models.own_files import QUANTIZED
from compress.utils.errors import CompressError, first_line
from compress.utils.messages import truncate_list

if TYPE_CHECKING:
    from onnx import ModelProto

Array = np.ndarray[Any, Any]
OLDEST, CONVERTED = 13, 17  # opset that INT8 with a scale per channel needs, and the one that older ones become
IR = 8  # version of the file format that goes with it
LIMIT = 2**31 - 1  # bytes of a file that protobuf can hold
TOLERANCE = 1e-3  # of the largest logit, between an image in a batch and alone


@dataclass(frozen=True)
class OnnxFile:
    """A classifier in the form that `OnnxClassifier` takes."""

    proto: ModelProto
    resolution: int  # side of the images in pixels
    outputs: int  # number of classes
    changed: bool  # whether it is another file than the one that was read
    notes: tuple[str, ...] = ()  # what was changed
    classes: tuple[str, ...] | None = None  # names of the outputs that the file states


class _Refused(Exception):
    """A file that is not taken; the message continues the path and says what to do."""


def read_onnx(path: Path, resolution: int | None, default: int, classes: int | None = None) -> OnnxFile:
    """Read a classifier from an ONNX file.

    Args:
        path: The file; its external data lie beside it.
        resolution: Side of the images that the recipe states; must be that of the file where the file has one.
        default: Side for a file that takes images of any size, unless one is stated.
        classes: Number of its classes where it is known, which tells one of several outputs.

    Raises:
        CompressError: it is damaged, no classifier of images, or does not run; the message says what to do.
    """
    try:
        return _Reader(_load(path), resolution, default, classes).read()
    except _Refused as error:
        raise CompressError(f"{path} {error}") from error
    except CompressError:
        raise
    except Exception as error:  # onnx and onnxscript raise a dozen kinds on graphs that no exporter writes
        raise CompressError(f"{path} cannot be read as a classifier: {first_line(error)}; export it again") from error


def _load(path: Path) -> ModelProto:
    import onnx

    try:
        proto = onnx.load(path)
    except Exception as error:  # protobuf raises types of its own
        lost = isinstance(error, OSError) or "external" in str(error).lower() or "data" in str(error).lower()
        remedy = "put its external data beside it" if lost and path.is_file() else "copy or export it again"
        raise _Refused(f"is not an ONNX file, or is damaged ({first_line(error, 120)}); {remedy}") from error
    if not proto.graph.node or not proto.graph.output:
        raise _Refused("is not an ONNX file, or holds no network; copy or export it again")
    if proto.ByteSize() > LIMIT:
        raise _Refused("holds more than 2 GB, which one ONNX file cannot; start from the network in PyTorch")
    return proto


class _Reader:
    """One reading; the file is changed step by step."""

    def __init__(self, proto: ModelProto, resolution: int | None, default: int, classes: int | None) -> None:
        self.proto, self.classes = proto, classes
        self.stated, self.default = resolution, default
        self.notes: list[str] = []
        self.names = onnx_rewrite.stated_names(proto)

    def read(self) -> OnnxFile:
        """Return the file in our form."""
        own = self._own_form()
        if own:
            return own
        if foreign := onnx_rewrite.foreign_operators(self.proto):
            names = truncate_list(foreign)
            raise _Refused(f"has operators that ONNX Runtime does not have ({names}); export it with ONNX's own only")
        self._modernise()
        batch, side, channels_last = self._image_input()
        original = self._with_sides(batch, side, channels_last)
        rng = np.random.default_rng(0)
        images = rng.standard_normal((2, 3, side, side), np.float32)
        given = images.transpose(0, 2, 3, 1) if channels_last else images
        count, flatten = self._choose_output(original, _padded(given[:1], batch))
        expected = _image_by_image(original, given, batch)
        onnx_rewrite.set_input(self.proto, INPUT, side, channels_last=channels_last)
        inner = self.proto.graph.output[0].name
        onnx_rewrite.set_output(self.proto, inner, OUTPUT, count, flatten=flatten)
        self.proto = self._for_any_batch(images, expected.reshape(2, count), batch)
        self._without_softmax(count, images)
        strip_metadata(self.proto)
        return OnnxFile(self.proto, side, count, True, tuple(self.notes), self.names)

    def _own_form(self) -> OnnxFile | None:
        """Return a file that has our form already, unchanged."""
        graph = self.proto.graph
        names = [node.name for node in graph.node]
        if [i.name for i in graph.input] != [INPUT] or [o.name for o in graph.output] != [OUTPUT] or "" in names:
            return None
        sides = graph.input[0].type.tensor_type.shape.dim
        outputs = [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim]
        fixed = [dim.dim_value for dim in sides]
        if len(fixed) != 4 or fixed[:2] != [0, 3] or fixed[2] != fixed[3] or not fixed[3] or len(outputs) != 2:
            return None
        if len(set(names)) < len(names) or opset_of(self.proto) < OLDEST or not outputs[1]:
            return None
        if onnx_rewrite.before_softmax(graph, OUTPUT) or graph.input[0].type.tensor_type.elem_type != 1:
            return None
        self._require_side(fixed[3])
        if _are_probabilities(run(self.proto, np.zeros((2, 3, fixed[3], fixed[3]), np.float32))[0]):
            return None
        return OnnxFile(self.proto, fixed[3], outputs[1], False, (), self.names)

    def _modernise(self) -> None:
        """Convert an old opset and 16-bit floats."""
        import onnx

        stored = {tensor.name for tensor in self.proto.graph.initializer}
        inputs = [value for value in self.proto.graph.input if value.name not in stored]
        del self.proto.graph.input[:]
        self.proto.graph.input.extend(inputs)
        self.proto.ir_version = max(self.proto.ir_version, IR)
        if (opset := opset_of(self.proto)) < OLDEST:
            try:
                self.proto = onnx.version_converter.convert_version(self.proto, CONVERTED)
            except Exception as error:  # the converter raises RuntimeError and types of its own
                reason = first_line(error, 100)
                remedy = f"export it with opset {CONVERTED} or newer"
                raise _Refused(f"has opset {opset}, which cannot be converted ({reason}); {remedy}") from error
            self.notes.append(f"opset {opset} converted to {CONVERTED}")
        if onnx_rewrite.widen(self.proto):
            self.notes.append("16-bit floats widened to 32 bits")

    def _image_input(self) -> tuple[int, int, bool]:
        """Return the fixed batch or 0, the side in pixels, and whether channels come last."""
        inputs = self.proto.graph.input
        if len(inputs) != 1:
            names = truncate_list([value.name for value in inputs])
            raise _Refused(f"takes {len(inputs)} inputs ({names}); export the image classifier alone")
        form = inputs[0].type.tensor_type
        sides = [dim.dim_value for dim in form.shape.dim]
        if form.elem_type != 1:  # TensorProto.FLOAT
            import onnx

            kind = onnx.TensorProto.DataType.Name(form.elem_type).lower()
            raise _Refused(f"takes {kind} pixels; export the network without its preprocessing, with float32 input")
        shape = [dim.dim_value or dim.dim_param or "?" for dim in form.shape.dim]
        channels_last = len(sides) == 4 and sides[3] == 3 and sides[1] != 3
        if len(sides) != 4 or (not channels_last and sides[1] not in (0, 3)):
            raise _Refused(f"takes an input {shape}, not [batch, 3, height, width]; export a classifier of RGB images")
        height, width = sides[1:3] if channels_last else sides[2:]
        if height != width and height and width:
            raise _Refused(f"takes images of {height} x {width} pixels; export it for square ones")
        if channels_last:
            self.notes.append("its input is [batch, height, width, 3]; transposed")
        return sides[0], self._require_side(height or width), channels_last

    def _require_side(self, fixed: int) -> int:
        if fixed and self.stated and self.stated != fixed:
            raise _Refused(f"takes images of {fixed} pixels; remove `resolution` or export it for {self.stated}")
        return fixed or self.stated or self.default

    def _with_sides(self, batch: int, side: int, channels_last: bool) -> ModelProto:
        """Return the file as it is, for images of a known size."""
        original = type(self.proto)()
        original.CopyFrom(self.proto)
        dims = original.graph.input[0].type.tensor_type.shape.dim
        for dim, value in zip(dims, [batch, side, side, 3] if channels_last else [batch, 3, side, side], strict=True):
            if value:
                dim.dim_value = value
        del original.graph.value_info[:]
        return original

    def _choose_output(self, original: ModelProto, images: Array) -> tuple[int, bool]:
        """Make the logits the only output; returns their number, and whether they have further sides of one pixel."""
        graph, given = original.graph, [output.name for output in original.graph.output]
        values = dict(zip(given, _run(original, images), strict=True))
        found = {
            name: value
            for name, value in values.items()
            if value.dtype.kind == "f" and value.ndim >= 2 and value.size == len(images) * value.shape[1] > len(images)
        }
        if len(found) > 1:
            found = {name: value for name, value in found.items() if value.shape[1] == self.classes} or found
            made = {name for name in found if onnx_rewrite.before_softmax(graph, name) in found}
            found = {name: value for name, value in found.items() if name not in made}
        shapes = ", ".join(f"{name} {['batch', *value.shape[1:]]}" for name, value in values.items())
        if not found:
            raise _Refused(f"has no output [batch, classes] ({shapes}); export a classifier")
        if len(found) > 1:
            raise _Refused(f"has several outputs that may be its logits ({shapes}); export it with one")
        (name, value) = next(iter(found.items()))
        if len(given) > 1:
            self.notes.append(f"of the outputs {', '.join(given)}, {name} was taken")
        for proto in (original, self.proto):
            kept = [output for output in proto.graph.output if output.name == name]
            del proto.graph.output[:]
            proto.graph.output.extend(kept)
            onnx_rewrite.drop_unused(proto.graph)
        return int(value.shape[1]), value.ndim > 2

    def _for_any_batch(self, images: Array, expected: Array, batch: int) -> ModelProto:
        """Return the network for any batch, found by comparing two images in a batch with each of them alone."""
        for made in self._candidates(images, batch):
            try:
                logits = run(made, images)[0]
            except CompressError:
                continue
            if logits.shape == expected.shape and np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max():
                if batch:
                    self.notes.append(f"its fixed batch of {batch} was made dynamic")
                return made
        raise _Refused(
            f"runs with a fixed batch of {batch or 1} only; export it with a dynamic one: torch.onnx.export(model, "
            "(images,), file, dynamo=True, dynamic_shapes=({0: torch.export.Dim('batch')},)) with 2 example images"
        )

    def _candidates(self, images: Array, batch: int) -> Sequence[ModelProto]:
        if any(node.op_type in QUANTIZED for node in self.proto.graph.node):  # constants must stay quantized
            onnx_rewrite.name_nodes(self.proto)
            return [self.proto]
        from onnxscript import optimizer

        plain = optimizer.optimize(self.proto)
        del plain.graph.value_info[:]  # shapes for the batch that it was exported for
        onnx_rewrite.name_nodes(plain)
        one = _padded(images[:1], batch)
        shapes = tensor_shapes(plain, onnx_rewrite.batch_dependent(plain.graph), one)
        freed = type(plain)()
        freed.CopyFrom(plain)
        onnx_rewrite.free_batch(freed, shapes)
        return [plain, freed]

    def _without_softmax(self, count: int, images: Array) -> None:
        inner = onnx_rewrite.before_softmax(self.proto.graph, OUTPUT)
        if inner:
            onnx_rewrite.set_output(self.proto, inner, OUTPUT, count, flatten=False)
            self.notes.append("the softmax at its end was removed, so that it gives logits")
        elif _are_probabilities(run(self.proto, images)[0]):  # the softmax is behind a reshape, or is another operator
            onnx_rewrite.take_logarithm(self.proto, OUTPUT)
            self.notes.append("it gives probabilities; their logarithm is taken, which is as good as logits")


def _are_probabilities(outputs: Array) -> bool:
    sums = outputs.astype(np.float64).sum(1)
    return bool((outputs >= 0).all() and np.allclose(sums, 1, rtol=0, atol=1e-3))


def run(proto: ModelProto, images: Array) -> list[Array]:
    """Run images through a file and return its outputs; a `CompressError` if ONNX Runtime does not run it."""
    from compress.models.onnx_network import session

    try:
        opened = session(proto.SerializeToString())
        return list(opened.run(None, {proto.graph.input[0].name: np.ascontiguousarray(images)}))
    except CompressError:
        raise
    except Exception as error:  # its exception types are not public
        raise CompressError(f"ONNX Runtime cannot run the network: {first_line(error)}") from error


def _run(proto: ModelProto, images: Array) -> list[Array]:
    try:
        return run(proto, images)
    except CompressError as error:
        remedy = "set `resolution` to the side that it was exported for, or export it again"
        raise _Refused(f"does not run on images {list(images.shape)} ({error}); {remedy}") from error


def _image_by_image(proto: ModelProto, images: Array, batch: int) -> Array:
    return np.concatenate([_run(proto, _padded(image[None], batch))[0][:1] for image in images])


def _padded(images: Array, batch: int) -> Array:
    """Repeat one image to the batch that a file is fixed to."""
    return np.repeat(images, max(batch, 1), 0)
