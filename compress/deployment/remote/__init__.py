"""Benchmarks on other machines: artifacts and a few modules are sent there, timed, and removed again."""
