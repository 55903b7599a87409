"""Query text to plan. Text comes in; a plan leaves, then, met with a file's schema, a bound plan.

Pure: no I/O, no knowledge of any file library; numpy only for its promotion rules, awkward and vector only
for the types of vectors. May import model, errors.

    parse/      one front end per query language, all into the nodes of `ir`
    ir          the nodes
    types       what a value is
    function    the functions a query may call
    plan        the records that come out: Plan, BoundPlan
    schema      what a file must tell about itself
    pattern     names chosen by globs and regular expressions; near names
    filtered    columns and objects that the patterns of a query choose
    bind        plan + schema -> bound plan
    infer       the type that each operation gives
    vector      what may be asked of vectors
"""
