"""The server's own identity on the grid: a VOMS proxy that is kept fresh, tokens, and who may see them.

In: a user's certificate, or files that others keep fresh. Out: a proxy where workers find it, what they show
to which storage, and the name of the identity (never a secret). May import `telemetry`, `model` and `errors`.

Only here is the package cryptography used, and only where a certificate is looked into.
"""
