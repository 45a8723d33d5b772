"""Publish a variant of a run as a repository of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.models.names import HUB
from compress.models.own_files import variant_folder
from compress.report.lineage import ancestry
from compress.report.repository_card import repository_card
from compress.results.read import RESULTS, read_run
from compress.results.run import RunRecord
from compress.results.variant import Variant
from compress.utils.checksums import RUN_AGAIN, require_unchanged
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.messages import choices

if TYPE_CHECKING:
    from compress.models.architecture import Network

README = "README.md"
SIGN_IN = "run `hf auth login` or set HF_TOKEN"


@dataclass(frozen=True)
class Published:
    """A repository that was written, and where it was uploaded to."""

    folder: Path
    files: tuple[str, ...]
    by_timm: bool  # whether timm loads it without `load_model.py`
    url: str | None = None


def push(
    run: Path, variant: str, repository: str, out: Path | None = None, *, upload: bool = True, private: bool = True
) -> Published:
    """Write a variant as a repository into a folder, and upload it.

    Args:
        run: Folder of a run.
        variant: Id of a variant with a float network.
        repository: OWNER/NAME on the hub.
        out: Folder to write; default: `RUN/hub/VARIANT`.
        upload: Whether to upload it; needs a token.
        private: Whether a repository that does not exist yet becomes a private one.

    Raises:
        UsageError: the run, the variant or the name of the repository is wrong, or the folder has other files.
        CompressError: the network is no longer in the store, or the upload failed.
    """
    check_name(repository)
    record, found = _variant(run, variant)
    network = _network(run, found, record)
    folder = out or run / "hub" / variant
    written = _write(folder, network, record, found, repository)
    if not upload:
        return written
    return Published(folder, written.files, written.by_timm, _upload(written, repository, private))


def check_name(repository: str) -> None:
    """Check the name of a repository, OWNER/NAME.

    Raises:
        UsageError: it is not one.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    name = repository.removeprefix(HUB)
    try:
        validate_repo_id(name)
        problem = None if name == repository and name.count("/") == 1 else "expected OWNER/NAME"
    except HFValidationError as error:
        problem = first_line(error).rstrip(".")
    if problem:
        raise UsageError(f"{repository!r} is not a repository of the hub: {problem}; name it like my-team/my-model")


def _variant(run: Path, name: str) -> tuple[RunRecord, Variant]:
    record = read_run(run)
    require_unchanged(run / RESULTS, RUN_AGAIN)
    by_id = {variant.id: variant for variant in record.variants}
    if name not in by_id:
        raise UsageError(f"{run} has no variant {name!r}{choices(name, by_id)}")
    return record, by_id[name]


def _network(run: Path, variant: Variant, record: RunRecord) -> Network:
    from compress.models.architecture import Architecture
    from compress.models.checkpoints import load_variant

    folder = variant_folder(run.resolve() / variant.id)  # the store is found from the run's own place
    architecture = Architecture.read(folder)
    files = f"upload its artifacts instead: hf upload OWNER/NAME {run / 'artifacts' / variant.id}"
    remedy = files if variant.artifacts else "export it and upload its artifacts"
    if architecture.embedding:
        raise UsageError(f"{variant.id} gives embeddings, and timm and the loader give logits; {remedy}")
    if architecture.quantization:
        ancestor = next(_float_ancestors(variant, record), None)
        also = f"push {ancestor}, the float variant that it was made from, or " if ancestor else ""
        raise UsageError(f"{variant.id} is quantized, and timm and PyTorch load float networks only; {also}{remedy}")
    if architecture.library == "onnx":
        raise UsageError(f"{variant.id} is an ONNX file, which timm and PyTorch do not load; {remedy}")
    return load_variant(folder)


def _float_ancestors(variant: Variant, record: RunRecord) -> Iterator[str]:
    """Yield the ids of the float variants that a quantized one was made from, the nearest first."""
    by_id = {each.id: each for each in record.variants}
    yield from (each.id for each in ancestry(variant, by_id) if each.quantization is None)


def _write(folder: Path, network: Network, record: RunRecord, variant: Variant, repository: str) -> Published:
    from compress.models.checkpoints import WEIGHTS
    from compress.models.hub_repository import CONFIG, LOADER, write_repository

    known = {CONFIG, WEIGHTS, LOADER, README}
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; name a folder")
    if folder.is_dir() and (others := sorted(path.name for path in folder.iterdir() if path.name not in known)):
        raise UsageError(f"--out {folder} has other files ({others[0]}); name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    made = write_repository(network, folder)
    card = repository_card(
        record, variant, repository, made.packages, by_timm=made.by_timm, notes=tuple(_notes(network, record))
    )
    (folder / README).write_text(card, encoding="utf-8")
    return Published(folder, (README, *made.files), made.by_timm)


def _notes(network: Network, record: RunRecord) -> Iterator[str]:
    preprocess = network.preprocess
    stored = record.recipe.resolved.get("data", {}).get("resolution")
    if not preprocess.from_originals and stored not in (None, preprocess.resolution):
        yield (
            f"Its accuracy was measured on pictures that were first resized to {stored} pixels; the transform resizes "
            f"them to {preprocess.resolution} at once."
        )


def _upload(written: Published, repository: str, private: bool) -> str:
    from huggingface_hub import HfApi, get_token

    token = get_token()
    by_hand = (
        f"the repository is in {written.folder}; {{}}, or upload it by hand: hf upload {repository} {written.folder}"
    )
    if not token:
        raise CompressError(f"not uploaded: no token of the Hugging Face Hub; {by_hand.format(SIGN_IN)}")
    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=written.folder,
            allow_patterns=list(written.files),
            commit_message="Upload by compress-model push",
        )
    except Exception as error:  # the hub's client and what it connects with raise a dozen kinds
        reason = f"{type(error).__name__}: {first_line(error)}".replace(token, "***")
        raise CompressError(f"not uploaded ({reason}); {by_hand.format('try again')}") from None
    return str(commit.repo_url)
