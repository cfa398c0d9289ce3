"""From a training folder to weights that ship: averaged weights in float16 safetensors, in transformers' and diffusers' own layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from torch import nn

from nerveseg.backbones import familiar
from nerveseg.errors import WeightsNotFound
from nerveseg.synthetic.names import NAMES
from nerveseg.synthetic.train import clip, diffusion, tokenizer, vae

__all__ = ["export"]


def export(run: Path, out: Path) -> None:
    """Write ``out``/clip and ``out``/diffusion from whatever the checkpoints of ``run`` hold now, finished or not.

    What the scenes look like goes with them where it was taken (``--part images``).

    Args:
        run: the folder that ``nerveseg synthetic train`` works in.
        out: replaced where it exists.

    Raises:
        WeightsNotFound: a part was never trained.
    """
    for part in ("clip", "diffusion"):
        shutil.rmtree(out / part, ignore_errors=True)
    words = tokenizer.save(out / "clip")
    model = clip.build(len(words))
    model.load_state_dict(_average(run / "clip-run"))
    model.half().save_pretrained(out / "clip")
    (out / "clip" / "words.json").write_text(json.dumps([*tokenizer.words(), *(name for name in NAMES if " " in name)]))
    coder = vae.build()
    coder.load_state_dict(_average(run / "vae-run"))
    coder.register_to_config(scaling_factor=vae.scaling_factor(coder))
    unet, text, noise = diffusion.build(len(tokenizer.save(out / "diffusion" / "tokenizer")))
    nn.ModuleDict({"unet": unet, "text": text}).load_state_dict(_average(run / "diffusion-run"))
    for name, part in (("vae", coder), ("unet", unet), ("text_encoder", text)):
        part.half().save_pretrained(out / "diffusion" / name)
    noise.save_pretrained(out / "diffusion" / "scheduler")
    for config in out.rglob("*.json"):
        _forget(config)
    if (seen := run / "pictures-run" / familiar.FILE).is_file():
        for part in ("clip", "diffusion"):
            shutil.copy(seen, out / part)


def _average(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise WeightsNotFound(f"Got {folder} without a checkpoint. Accepted is a folder of a training. Run: nerveseg synthetic train.")
    return torch.load(path, map_location="cpu", weights_only=True)["ema"]["average"]


def _forget(config: Path) -> None:
    """Take the training folder's path out of a configuration."""
    table = json.loads(config.read_text())
    if isinstance(table, dict) and "_name_or_path" in table:
        del table["_name_or_path"]
        config.write_text(json.dumps(table, indent=2) + "\n")
