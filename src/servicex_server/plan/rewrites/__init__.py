"""One rewrite per module: a bound expression in, one of the same value that costs less out. Pure."""
