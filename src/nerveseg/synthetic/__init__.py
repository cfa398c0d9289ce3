"""The embedded world: drawn scenes with exact masks and captions, on which the embedded pair is trained and scored."""
