"""Leave out files that crash their runtime, before they are run in the process of the run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from compress.deployment.export import Target
from compress.deployment.runtimes import find_runtime
from compress.deployment.trial import find_crashes


def without_crashes(variant: str, built: Mapping[Target, Path], failed: dict[Target, str]) -> dict[Target, Path]:
    """Return the files without those that crash or hang, which are removed.

    Args:
        variant: Id of the variant, for messages.
        built: Files by target; those that run elsewhere are kept.
        failed: Gets the reasons.
    """
    here = {target.name: target for target in built if not find_runtime(target.runtime).runs_on}
    crashes = find_crashes({name: (target.runtime, built[target]) for name, target in here.items()})
    for name, end in crashes.items():
        runtime = here[name].runtime
        failed[here[name]] = (
            f"{variant} crashes {runtime} ({end}), a fault of {runtime}: remove {runtime} from `runtimes`, or change "
            "the network, such as by another `method` of quantization"
        )
    kept = {target: path for target, path in built.items() if target.name not in crashes}
    for name in crashes:
        if (path := built[here[name]]) not in kept.values():
            shutil.rmtree(path.parent, ignore_errors=True)
    return kept
