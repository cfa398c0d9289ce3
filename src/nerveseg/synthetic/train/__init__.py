"""How the embedded pair is trained, from scratch and from captions alone: never a mask, not even to cut a crop."""
