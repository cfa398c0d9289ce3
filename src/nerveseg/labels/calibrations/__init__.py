"""The rows of G made to compete on one scale, before the walk. One file a choice: ``Options`` and ``calibrate(G, options, *, rest)``."""
