"""Which output of a network is which class of the data: by name, in whatever order each has them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import cache

from compress.results import Accuracy
from compress.utils.errors import UsageError
from compress.utils.messages import join_words, truncate_list

ARCHITECTURE = "architecture.json"
IMAGENET = 1000  # classes of ImageNet-1k


def output_rows(own: Sequence[str], data: Sequence[str]) -> list[int] | None:
    """Return, for each class of the data, the output of a network with the classes `own`; None if it lacks one.

    Names are compared as they are, and otherwise without regard to case, `_`, `-` and forms of Unicode.
    """
    spellings: tuple[Callable[[str], str], ...] = (str, _folded)
    for spelled in spellings:
        names = [spelled(name) for name in own]
        counts = Counter(names)
        outputs = {name: row for row, name in enumerate(names) if counts[name] == 1}
        rows = [outputs.get(spelled(name)) for name in data]
        if None not in rows and len(set(rows)) == len(rows):
            return [row for row in rows if row is not None]
    return None


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("-", " ").split())


def other_classes(where: str, own: Sequence[str], data: Sequence[str]) -> str:
    """Say that a network is for other classes than the data's."""
    return f"{where} was trained for other classes ({truncate_list(own)}) than the data's ({truncate_list(data)})"


def published_classes(library: str, model: str, data: Sequence[str]) -> tuple[str, ...] | None:
    """Return the classes of published weights as the data names them; None if the library does not say.

    ImageNet's 1,000 classes match by synset id (`n01440764`), by torchvision's names (`tench`) or, where the data has
    all of them, by index (`0`, ..., `999`): one rule for both libraries.

    Raises:
        UsageError: the weights are for other classes than the data's, so the head would be random.
    """
    if names := stated_classes(library, model):
        return names
    count = outputs(library, model)
    if count != IMAGENET:
        if count in (None, len(data)):
            return None
        others = f"{count} classes"
    else:
        if names := imagenet_classes(data):
            return names
        indices = tuple(map(str, range(IMAGENET)))
        if len(data) == IMAGENET and output_rows(indices, data):
            return indices
        others = f"ImageNet's classes ({truncate_list(_imagenet()[1])})"
    raise UsageError(
        f"{library}'s weights of {model} are for {others}, and the data has {len(data)} ({truncate_list(data)}): "
        "its head would be random; fine-tune it on the data and set `checkpoint` to the file"
    )


def imagenet_classes(data: Sequence[str]) -> tuple[str, ...] | None:
    """Return ImageNet's classes in the order of published weights, as the data names them; None for other data."""
    return next((names for names in _imagenet() if output_rows(names, data) is not None), None)


@cache
def _imagenet() -> tuple[tuple[str, ...], ...]:
    """Synset ids and names."""
    from timm.data import ImageNetInfo
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(ImageNetInfo().label_names()), tuple(_IMAGENET_CATEGORIES)


def stated_classes(library: str, model: str) -> tuple[str, ...] | None:
    """Return the class names in timm's configuration of a model, such as that of a `local-dir:` folder."""
    from compress.models.names import timm_config

    names = (timm_config(model) or {}).get("label_names") if library == "timm" else None
    valid = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if names and valid else None


def outputs(library: str, model: str) -> int | None:
    """Return the number of classes that published weights were trained for; None if the library does not say."""
    from compress.models.names import timm_config, torchvision_weights

    if library == "timm":
        return (timm_config(model) or {}).get("num_classes")
    weights = torchvision_weights(model)
    return len(weights.meta["categories"]) if weights else None


def chance_warning(
    where: str, accuracy: Accuracy, chance: float, classes: Sequence[str], settings: Collection[str]
) -> str | None:
    """Return a warning with the likely cause if a trained network is not shown to be above chance, else None.

    Args:
        where: What the network is, for the message.
        accuracy: On validation or test images.
        chance: Accuracy without looking at the images: share of the most frequent class among them.
        classes: Names of the data's classes, in their order.
        settings: Names of the settings that its section of the recipe has.
    """
    if accuracy.ci95[0] > chance:
        return None
    shown = (
        f"{where} has {accuracy.top1:.1%} on {accuracy.split} ({accuracy.correct} of {accuracy.n}), not shown to be "
        f"above chance ({chance:.1%}); likely "
    )
    if "classes" not in settings:  # a head of text embeddings, in the data's own order
        return f"{shown}its prompts do not describe the classes: check `prompts` and `templates` of `data`"
    numbers = all(name.isdecimal() for name in classes)
    sorting = (
        f": numbers are in numerical order here ({truncate_list(classes)}), often sorted as text" if numbers else ""
    )
    pixels = [name for name in ("mean", "std", "resolution") if name in settings]
    return (
        f"{shown}its outputs are in another order than the data's classes{sorting}, or it takes another "
        f"{join_words(pixels)}: set `classes` to its classes in the order of its outputs, and check "
        f"{join_words([f'`{name}`' for name in pixels], 'and')}"
    )
