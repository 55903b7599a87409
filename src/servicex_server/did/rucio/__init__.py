"""How one speaks with a Rucio server: who we are there, and answers line by line; `did.finders.rucio` asks.

Over its REST API with httpx: Rucio's own client blocks, and takes two seconds and thirty packages to import.
"""

from __future__ import annotations
