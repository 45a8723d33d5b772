"""What a variant costs and how right it is. Importing this imports neither torch nor a runtime."""
