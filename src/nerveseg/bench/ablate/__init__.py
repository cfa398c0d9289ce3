"""Ablations, one file each: which variants of a recipe are measured beside each other on the same images.

An ablation file holds

- ``title``: one line; ``claim``: what the paper says of it, with its table or figure;
- ``reference``: name of the variant that the others are compared with;
- ``variants(given: Setting) -> tuple[Variant, ...]``: what needs a network that is not at hand is left out;
- optionally ``axis``: name of the number that `Variant.at` is, for a curve in place of bars.

Each variant takes the decision rule that serves it best on images that are not scored, G alone and calibrated G included: a walk that
flattens P is not to be judged by a rule that only sharp maps can stand.
"""
