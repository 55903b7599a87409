"""Ways to carry units and reports: in memory, over a Unix socket to worker processes, over RabbitMQ."""
