"""Use cases, one verb per module: what api and web may ask for, and the tasks that run beside them.

In: frozen model objects and a `Services` bundle. Out: model objects, or an error of `errors.py`.
A use case opens one database transaction, applies the pure lifecycle in it, and acts on the effects
after the commit. May import auth, did, launch, source, db, queue, store, plan, model; never fastapi or run.

A composition root builds one `Services` and runs `background.run_background(services)` beside the HTTP app.
"""

from __future__ import annotations
