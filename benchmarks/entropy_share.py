"""What `entropy_share` costs: head weights from a part of the rows beside those from all rows, on scenes of the embedded world.

    python benchmarks/entropy_share.py [--scenes 20] [--threads 1]

The entropies (13) are a mean over rows, and `entropy_share` says how many of them are looked at (at least 256). The certificate of the walk
is that of S with the weights that came out: it does not know what all rows would have said. Prints, for each c, the largest difference of a
weight and the largest share of tokens whose most probable label moves, over the scenes.
"""

from __future__ import annotations

import argparse
import dataclasses

import torch

from nerveseg import transition
from nerveseg.image import load_image
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import scenes
from nerveseg.synthetic.score import labels_of
from nerveseg.transition.options import Options
from nerveseg.walk import infinite
from nerveseg.words.vocabulary import Vocabulary

PEAKEDNESS = (1.0, 10.0, 100.0)


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    segmenter = Segmenter.from_pretrained("mini", device="cpu")
    share, alpha = Options().entropy_share, segmenter.recipe.walk.options.alpha
    worst = dict.fromkeys(PEAKEDNESS, (0.0, 0.0))
    for index in range(given.scenes):
        scene = scenes.render("val", index)
        encoding = segmenter.encode(load_image(scene.image.copy()))
        vocabulary = Vocabulary.parse(labels_of(scene, "val", index))
        G = segmenter.label(encoding, vocabulary, recipe=segmenter.recipe.changed({"walk.name": "none"})).G
        for c in PEAKEDNESS:
            part, whole = (
                transition.build(
                    encoding.heads,
                    G,
                    options=dataclasses.replace(segmenter.recipe.transition, peakedness=c, entropy_share=one),
                    kernel_options=segmenter.recipe.kernel.options,
                )
                for one in (share, 1.0)
            )
            moved = infinite(part, G, alpha).probabilities.argmax(1) != infinite(whole, G, alpha).probabilities.argmax(1)
            weight = float((part.weights - whole.weights).abs().max())
            worst[c] = (max(worst[c][0], weight), max(worst[c][1], float(moved.double().mean())))
    print(f"{given.scenes} scenes, {len(G)} tokens, entropies from {max(256, round(share * len(G)))} of them\n")
    print("| c | a head's weight moves by at most | tokens with another label, at most |\n|---|---|---|")
    for c, (weight, moved) in worst.items():
        print(f"| {c:g} | {weight:.3f} | {moved:.2%} |")


if __name__ == "__main__":
    main()
