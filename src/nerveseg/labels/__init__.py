"""Words and activations → class scores on a token grid, and from there the rows of G. One file a label source.

A label source module owns:

- ``Options``: its knobs;
- ``needs``: the backbones it reads, by kind (``clip``, ``diffusion``, ``dino``, …); they come as the mapping ``networks``;
- ``embeds``: the backbone whose text tower turns words into the vectors it compares with; None where it wants none;
- ``text_conditioned``: whether new words need a new pass of a network, which `score` then makes;
- ``decode_options``: the knobs that `score` alone reads, so that they may change without encoding again;
- ``look(image, networks, options)``: the passes over an image, one `View` each, lazily;
- ``encode(views, networks, options)``: `Features`, all that does not depend on the words; a source that draws noise has a knob ``seed``
  and takes the noise itself as ``noise``;
- ``score(features, words, networks, options)``: `Scores`, for any words.
"""
