"""Deployable files of variants, and the runtimes that run them. Importing this imports neither torch nor a runtime."""

from compress.deployment.export import artifact_bytes, export
from compress.deployment.runtimes import RUNTIMES, Runner, Runtime, find_runtime, missing, require

__all__ = ["RUNTIMES", "Runner", "Runtime", "artifact_bytes", "export", "find_runtime", "missing", "require"]
