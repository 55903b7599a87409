"""Implementations of the store: a local folder, an S3 bucket, and memory for tests and trials."""
