"""A gate for CI: rules that bound what a run may lose against a baseline."""
