"""The answer of Hugging Face transformers' ``post_process_panoptic_segmentation``, as the processor of Mask2Former gives it.

Checked with transformers 5.23.0. MaskFormer's, OneFormer's and DETR's processors number alike; EoMT's counts from 0 with −1 for none.
"""

from __future__ import annotations

from typing import Any

import torch

from nerveseg.integrations.segments import Segments

__all__ = ["panoptic"]


def panoptic(found: Segments) -> dict[str, Any]:
    """Tell of segments as transformers does.

    Returns:
        ``segmentation``: (H, W) int32 tensor of segments' ids, from 1; 0 is no segment. ``segments_info``: one dict a segment, in the
        order of ids, of ``id``, ``label_id``, ``was_fused`` (all parts of the label are this one segment) and ``score``. Where nothing is
        decided the map is 0 and the list empty; transformers' own map is then −1, of float32.
    """
    told = zip(found.labels, found.whole, found.scores, strict=True)
    return {
        "segmentation": torch.from_numpy(found.numbers),
        "segments_info": [
            {"id": number, "label_id": label, "was_fused": whole, "score": score}
            for number, (label, whole, score) in enumerate(told, start=1)
        ],
    }
