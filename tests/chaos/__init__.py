"""Breaks a real deployment at random moments, and counts afterwards: `make chaos`, `make soak`.

    inputs     200 files whose content is known, two of them broken
    pace       serves some of them slowly, so that there is a middle to break
    services   PostgreSQL, RabbitMQ and an S3 server, which may be broken
    fleet      apps, workers and a sweeper, restarted when they die, as Kubernetes would
    arrival    files named with the submit, or told of by a finder in batches
    faults     what is broken, and how; the schedule of a seed
    watch      what a client sees meanwhile
    verdict    what has to hold at the end
    runs       one run of each kind
    soak       many small requests for minutes
    report     the table, and JSON in .cache/chaos

Every run is made from its seed. A seed that finds something keeps its logs.
"""
