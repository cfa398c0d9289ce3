"""Pixels → named activations: the networks, loaded frozen and looked into with hooks that always come off."""
