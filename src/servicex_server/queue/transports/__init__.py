"""Ways to carry units and reports: in memory, and over a Unix socket to worker processes."""
