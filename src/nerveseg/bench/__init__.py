"""The harness: runs over data sets, reports, ablations, tuning, pseudo-masks.

A run: `job` (which recipe on which data, and what decides its numbers) → `worker` (one image: words, segmentation, counts) → `run` (a
folder that can be stopped, resumed, split) → `scored` (a folder's lines → scores and files). Their parts: `words` (classes ↔ labels),
`confusion` and `calibration` (counts, and scores from counts), `protocol` (the field's two ways of scoring).
"""
