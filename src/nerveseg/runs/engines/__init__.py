"""Where the items of a long job are worked on. One file an engine; the registry kind is ``engines``.

An engine file holds

- ``Options``: a frozen dataclass of knobs;
- ``execute(make, items, *, workers, prefetch, options, stop) -> Iterator[Outcome]``, a generator: every item exactly once, in any order,
  as soon as it is done; closing it ends the workers. ``make`` makes a worker; each of the ``workers`` (1 or more) starts its own once and
  reads at most ``prefetch`` items ahead. An error of ours that reading or working on an item raises is that item's outcome; any other
  exception is raised. A worker that dies is told with the warning `WorkerDied` and its items go to another one; an item on which two
  workers died has a `RunError` as its outcome. Once ``stop()`` is true, items in work are finished and given, and no other is begun.

Files that start with ``_`` are what they share.
"""
