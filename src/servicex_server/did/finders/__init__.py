"""One module for each scheme whose data sets we find by ourselves; `app.finders` offers them."""

from __future__ import annotations
