"""Cost and accuracy of variants. Importing this package imports neither torch nor a runtime."""
