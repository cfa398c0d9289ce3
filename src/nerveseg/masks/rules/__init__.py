"""How the label of a pixel is chosen from its classes' maps. One file a rule; the registry kind is ``rules``.

A rule file holds

- ``Options``: a frozen dataclass of knobs;
- ``transform(maps (c, H, W), stats, options) -> (c, H, W)``: makes each class's map comparable with the others. It sees some classes
  at a time, so it must treat each class by itself; `base.ClassStats` has one entry a class of the block. The largest value wins,
  the lowest id on a tie;
- optionally ``line(stats, extremes, options) -> base.Line``, where the value of a pixel is a rising line of its map alone: ``transform``
  as three numbers a class, so that labels that cannot win a part of the image are not upsampled there (`nerveseg.masks.patches`);
- optionally ``threshold(options) -> float``: where the winner's value is below it and there is a background, background wins;
- optionally ``least(options) -> float``: labels that win no more than this share of all pixels won by labels are decided without, where
  there is a background; 0 keeps all;
- optionally ``divides(options) -> bool``: False to be given the maps as they are upsampled, not divided by their sum at each pixel.
"""
