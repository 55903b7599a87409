"""Station 2: a data set's name becomes its files.

In: the name, as `model.did` takes it apart. Out: batches of files with their replicas. A finder for each
scheme lies in `finders`, behind the port in `protocol`; what records the files knows nothing of schemes. May
import `source` (which hosts and folders may be read) and what lies below it.
"""

from __future__ import annotations
