"""How the server tells what it does: logs. May import `model` and `errors`."""
