"""The nouns: ids, enums, frozen records, queue messages and the pure lifecycle of a request.

Nothing here does I/O or knows a library beyond the standard one; everybody may import it.
"""
