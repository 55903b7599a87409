"""Implementations of the store: a local folder, and memory for tests and trials."""
