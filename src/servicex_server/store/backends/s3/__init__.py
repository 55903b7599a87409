"""A store in a bucket of any S3 server: AWS, Ceph, MinIO, SeaweedFS.

`place` says where the bucket is, `credential` who we are, `patience` how long we wait; `client` makes the
connections of a process, `fault` says what the store's errors mean, `reading` streams, `signing` makes URLs
for others, `unfinished` removes uploads that were never completed, and `store` is the implementation of
the port.
"""
