"""Station 5: one work unit, from a replica to a finished result file: read -> filter -> write.

In goes a unit with a query and the places of a file, out comes one object in the store and a report.
`read` turns bytes into columns, `filter` evaluates the bound plan on them, `write` encodes what is left.
May import source, store, queue, plan, model and errors; never db, service or api.
"""
