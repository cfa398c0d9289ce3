"""Kernels: queries and keys of one head → non-negative affinities between all pairs of tokens. One file a kernel.

A kernel module declares

- ``low_rank``: True where the affinities are a product of features, False where they come block of rows by block of rows;
- ``stochastic``: False only where entries may be negative;
- ``sharpness``: the name of the option that ``neighbours`` solves, or None;
- ``Options``: a frozen dataclass of its knobs;

and gives two functions on float32 tensors, pairing already applied:

- ``prepare(queries, keys, grid, options) -> (A, B)``: what does not depend on the sharpness, both with n rows;
- low rank: ``features(A, B, options) -> (U, V)``, n × r each, U Vᵀ the affinities before row normalisation;
- otherwise: ``rows(products, options) -> (rows, stuck)`` from a block of A Bᵀ, which it may overwrite: rows that sum to 1, or to 0 where
  the boolean ``stuck`` says so (None: nowhere).

A low-rank kernel gets one head at a time. The functions of the others work on the last two axes, whatever stands before them: one head on a
CPU, all heads at once on an accelerator, and then the option named by ``sharpness`` may be a (heads, 1, 1) tensor, one number a head.
"""
