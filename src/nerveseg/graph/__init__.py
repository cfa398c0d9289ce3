"""Activations → heads: queries and keys on a token grid. One file a graph source.

A graph source module owns ``Options``, ``needs`` (the backbones it reads) and ``heads(picture, backbone, options, *, noise=None)``.
"""
