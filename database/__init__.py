"""The archive: the database of everything a run made, and the MAP-Elites view of it.

`records` says what goes in and comes out, `grid` is MAP-Elites in memory, `schema` and `migrations` are the
tables, `archive` is what the loop writes to, `reader` what everybody asks, `lock` keeps a second writer away.
Only the driver of a run writes; readers open an archive at any time.
"""
