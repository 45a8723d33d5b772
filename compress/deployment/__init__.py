"""Deployable files of variants, and the runtimes that run them. Importing this imports neither torch nor a runtime."""
