"""Sharpening at image size, between upsampling and the rule. One file a refiner; the registry kind is ``refiners``.

A refiner file holds

- ``Options``: a frozen dataclass of knobs;
- ``refine(P (K, H, W), image, options) -> (K, H, W)``: probabilities that sum to 1 over K in, the same out, on the same device. Maps
  that say the same at every pixel come back as they are (the dense CRF alone makes them surer); the image's pixels have the size (H, W);
- ``on_logits``, where it says True: with `masks.upsample = "logits"` it sharpens the logits before their softmax, not the shares after it.
  A refiner that averages with weights that sum to 1 may say so;
- ``own_size``, where it says True beside: those logits come as the label source made them, not brought to the image's size first.
"""
