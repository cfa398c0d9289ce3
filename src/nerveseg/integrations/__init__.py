"""Results in the shapes of other libraries: transformers' panoptic answer, supervision's detections, a FiftyOne model. One file each."""
