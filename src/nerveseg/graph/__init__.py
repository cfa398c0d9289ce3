"""Activations → heads: queries and keys on a token grid. One file a graph source.

A graph source module owns ``Options``, ``needs`` (the backbones it reads, by kind; they come as the mapping ``networks``) and
``heads(image, networks, options, *, noise=None)``.
"""
