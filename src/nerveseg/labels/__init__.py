"""Words and activations → class scores on a token grid, and from there the rows of G. One file a label source.

A label source module owns:

- ``Options``: its knobs;
- ``words_in_network``: whether new words need a new pass of the network;
- ``needs``: the backbones it reads;
- ``look(picture, clip, options)``: the network's passes, one `View` each, lazily;
- ``encode(views, clip, options)``: `Features`, all that does not depend on the words;
- ``score(features, text, groups, background, options)``: `Scores`, cheap, for any words.
"""
