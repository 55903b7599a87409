"""HTTP in and out: the public routes, the mapping of errors, the checks in front, the S3 endpoint (`s3/`).

In: requests of the official client, of browsers and of S3 libraries. Out: exactly the shapes, codes and
timings they expect. Handlers call one `service` function each. May import `service` and what lies below.
"""
