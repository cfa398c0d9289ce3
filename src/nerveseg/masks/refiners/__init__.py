"""Sharpening at picture size, between upsampling and the rule. One file a refiner; the registry kind is ``refiners``.

A refiner file holds

- ``Options``: a frozen dataclass of knobs;
- ``refine(P (K, H, W), picture, options) -> (K, H, W)``: probabilities that sum to 1 over K in, the same out, on the same device. On
  a picture of one colour it returns what came in; the picture's pixels have the size (H, W).
"""
