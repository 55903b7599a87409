"""ServiceX server: filtered columns from LHC data sets, delivered while you wait.

The path of a request is the tree (stations sort alphabetically in flow order):

    api/      1  HTTP in and out: public routes, error mapping, the S3 read endpoint
    plan/     3  query text -> plan; pure
    queue/    4  work at least once
    run/      5  one work unit: read -> filter -> write
    store/    6  result objects

beside them: `model` (the nouns), `service` (use cases), `db`, `source` (the bytes of a replica),
`launch` (worker processes), `auth`, `app` (composition roots) and `cli`.
"""

from __future__ import annotations
