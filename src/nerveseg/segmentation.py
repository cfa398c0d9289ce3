"""The result: a label map at the image's own size, and the views that are made from it when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor

from nerveseg import _renamed, outputs, registry
from nerveseg.errors import OptionError, OutputError, ShapeError
from nerveseg.image import names
from nerveseg.image.load import LoadedImage, png
from nerveseg.integrations import supervision, transformers
from nerveseg.integrations.segments import Segments, segments
from nerveseg.labels.base import Logits
from nerveseg.masks import temperature as tempering
from nerveseg.masks.color_likelihood import ColorLikelihoodRatio
from nerveseg.masks.decide import decide, shown
from nerveseg.masks.draw import paint, with_legend
from nerveseg.masks.regions import merge_small
from nerveseg.masks.upsample import picked, resample, shares
from nerveseg.masks.upsampled_logits import UpsampledLogits, early
from nerveseg.parse import from_json
from nerveseg.reprs import brief
from nerveseg.words.lookup import place
from nerveseg.words.vocabulary import Background, Label, Vocabulary, need_background

__all__ = ["CONFIDENCES", "Segmentation", "WalkInfo"]

CONFIDENCES = ("probability", "margin", "entropy")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class WalkInfo:
    """What the walk says about itself.

    Attributes:
        steps: applications of S.
        bound: certified largest L1 distance of a row from the infinite walk.
        outcome: how it ended, in words.
        head_weights: w_h, summing to 1; empty where there are no heads.
    """

    steps: int
    bound: float
    outcome: str = ""
    head_weights: tuple[float, ...] = ()

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one image. Make one with `build`; everything is on the CPU.

    Attributes:
        segmentation: (H, W) int64 ids at the image's size, in the caller's order; the background, where asked for, is last.
        probabilities: (K, h, w) float32 on the token grid, the labels that are shown, as the walk leaves them: they sum to less than 1
            where `rest` was dropped, and ``temperature`` has not touched them.
        labels: name and strings of each id.
        image: what was segmented.
        background: id of the background, or None.
        recipe: name of the recipe.
        walk: steps, bound, outcome, head weights; None where nothing walked.
        seconds: stage → seconds.
        weights: model → digest.
        refined: (K, H, W) shares at image size, where a refiner made them.
        strings: the logits that were upsampled in place of probabilities, where a recipe does so.
        odds: by which the odds of labels at pixels were multiplied, in scores and ids alike; None where there were none.
        temperature: T. The scores and confidences that are shown are p^(1/T), divided by their sum over the labels at each pixel; p, which
            the ids were decided by, is what they are at 1. Larger: less sure.
    """

    segmentation: Int64[Tensor, "H W"]
    probabilities: Float[Tensor, "K h w"]
    labels: tuple[Label, ...]
    image: LoadedImage
    background: int | None = None
    recipe: str = ""
    walk: WalkInfo | None = None
    seconds: Mapping[str, float] = field(default_factory=lambda: _NOTHING)
    weights: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    refined: Float[Tensor, "K H W"] | None = None
    strings: UpsampledLogits | None = None
    odds: ColorLikelihoodRatio | None = None
    temperature: float = 1.0

    __repr__ = brief
    picture = _renamed.attribute("picture", "image")

    def __post_init__(self) -> None:
        tempering.check(self.temperature)
        if len(self.labels) != self.probabilities.shape[0] or tuple(self.segmentation.shape) != self.image.size:
            raise ShapeError(
                f"Got {len(self.labels)} labels, probabilities {tuple(self.probabilities.shape)} and ids {tuple(self.segmentation.shape)} "
                f"for an image {self.image.size}. Accepted are one map a label and one id a pixel. Use Segmentation.build."
            )

    @classmethod
    def build(
        cls,
        P: Float[Tensor, "k h w"],
        G: Float[Tensor, "k g v"],
        vocabulary: Vocabulary,
        image: LoadedImage,
        *,
        background: Background | None = None,
        rule: str = "argmax",
        options: Any = None,
        refiner: str = "none",
        refiner_options: Any = None,
        min_area: int = 0,
        logits: Logits | None = None,
        background_map: str = "rest",
        scale: float = 1.0,
        odds: ColorLikelihoodRatio | None = None,
        temperature: float = 1.0,
        recipe: str = "",
        walk: WalkInfo | None = None,
        seconds: Mapping[str, float] = _NOTHING,
        weights: Mapping[str, str] = _NOTHING,
    ) -> Segmentation:
        """Decide every pixel of an image.

        Args:
            P: after the walk, on the token grid: one map a label of ``vocabulary``, then `rest`; any device.
            G: before the walk, the same columns.
            vocabulary: the labels.
            image: gives the size.
            background: None drops `rest`; otherwise `rest` competes and becomes the label ``background``, last.
            rule: decision rule and its ``options`` (None: defaults).
            options: see ``rule``.
            refiner: sharpens the maps at image size, with its ``refiner_options`` (None: defaults).
            refiner_options: see ``refiner``.
            min_area: parts smaller than this many pixels take the label around them; 0 keeps them.
            logits: upsampled in place of P, before their softmax; a refiner that says ``on_logits`` then works on them.
            background_map: with ``logits``: what the background's map is, "rest" or "best" (see `UpsampledLogits`).
            scale: m, what the label source's scores were divided by to become G; class scores are on their scale.
            odds: of labels at pixels, as colours near a click give them; not with ``logits``.
            temperature: T of the scores that are shown, see `Segmentation`; the ids do not depend on it.
            recipe: name for the sidecar.
            walk: what the walk reports.
            seconds: stage → seconds.
            weights: model → digest.

        Raises:
            LabelError: one label and no background. ShapeError: columns that do not match the labels.
        """
        need_background(vocabulary, background)
        if P.ndim != 3 or P.shape[0] != len(vocabulary) + 1:
            raise ShapeError(
                f"Got P of shape {tuple(P.shape)} for {len(vocabulary)} labels. Accepted are K + 1 maps (k, h, w). Put `rest` last."
            )
        keeps = background is not None
        kept: list[Tensor] = []

        def refine(maps: Tensor) -> Tensor:
            kept.append(_refine(maps, image, refiner, refiner_options))
            return kept[0]

        strings, chosen = None, None if refiner == "none" else refine
        if logits is not None:
            if chosen is not None and registry.load("refiners", refiner).on_logits:
                logits, chosen = _sharper(logits, image, refiner, refiner_options), None
            strings = UpsampledLogits(early(logits), background_map if keeps else None)
        ids = decide(
            P, G, image.size, background=keeps, rule=rule, options=options, refine=chosen, strings=strings, scale=scale, odds=odds
        ).cpu()
        if min_area > 1:
            ids = torch.from_numpy(merge_small(ids.numpy(), min_area))
        extra = (Label(background.name, background.strings),) if background is not None else ()
        return cls(
            segmentation=ids,
            probabilities=shown(P.detach(), background=keeps).float().cpu().contiguous(),
            labels=vocabulary.labels + extra,
            image=image,
            background=len(vocabulary) if keeps else None,
            recipe=recipe,
            walk=walk,
            seconds=MappingProxyType(dict(seconds)),
            weights=weights,
            refined=kept[0].cpu() if kept else None,
            strings=strings,
            odds=odds,
            temperature=temperature,
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.size

    def __getitem__(self, label: str | SupportsIndex) -> Bool[Tensor, "H W"]:
        """The mask of a label: true where it is.

        Args:
            label: its name or one of its strings (case and spaces do not count), or its id.

        Raises:
            LabelError: no such label.
        """
        return self.segmentation == place(self.labels, label)

    def __contains__(self, label: object) -> bool:
        """Whether there is a label of that very name, in the image or not."""
        return label in self.label2id

    def __iter__(self) -> Iterator[str]:
        """The labels' names, in the order of their ids."""
        return iter(self.label2id)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay with its legend."""
        return png(self.overlay())

    @property
    def id2label(self) -> dict[int, str]:
        """Id → name."""
        return {index: label.name for index, label in enumerate(self.labels)}

    @property
    def label2id(self) -> dict[str, int]:
        """Name → id."""
        return {label.name: index for index, label in enumerate(self.labels)}

    @property
    def ignore_index(self) -> int:
        """The id that stands for "not decided": 255 up to 255 labels, 65535 beyond."""
        return 255 if len(self.labels) <= 255 else 65535

    @cached_property
    def segmentation_scores(self) -> Float[Tensor, "K H W"]:
        """Probability of each label at each pixel, float32, summing to 1 over the labels; made on first use and kept (4·K·H·W bytes)."""
        if self.refined is not None and self.temperature == 1.0:
            return self.refined
        scores = torch.empty((len(self.labels), *self.size))
        for first, block in self._blocks():
            scores[first : first + block.shape[0]] = block
        return scores

    def score_blocks(self) -> Iterator[tuple[int, Float[Tensor, "c H W"]]]:
        """`segmentation_scores` a few labels at a time, so that K·H·W numbers need not fit in memory.

        Yields:
            The id of the block's first label, and the block, float32.
        """
        yield from self._blocks()

    def confidence(self, kind: str = "probability") -> Float[Tensor, "H W"]:
        """How sure each pixel is, 0 … 1, 1 = sure. With p the scores of a pixel, l its label, K labels.

        Args:
            kind: ``"probability"``: p_l. ``"margin"``: max(0, p_l − the largest other p). ``"entropy"``: 1 + Σ p ln p / ln K.
                A single label is 1 in the last.

        Memory is a few maps, not K. Cost O(H·W) for the probability where maps were upsampled and T = 1, else O(K·H·W), twice at another T.
        """
        if kind not in CONFIDENCES:
            raise OptionError(f"Got the confidence {kind!r}. Accepted are {', '.join(CONFIDENCES)}. {registry.meant(kind, CONFIDENCES)}")
        ids = self.segmentation
        if kind == "probability" and self.refined is None and self.strings is None:
            own = picked(self.probabilities, ids, self.odds).clamp_(0.0, 1.0)
            if self.temperature == 1.0:
                return own
            return tempering.of(own, *tempering.sums(self._plain(), self.size, self.temperature), self.temperature)
        own, rival, order = (torch.zeros(self.size) for _ in range(3))
        for first, block in self._blocks():
            if kind == "probability":
                own += _of(block, ids - first)
                continue
            here = torch.arange(first, first + block.shape[0]).view(-1, 1, 1) == ids
            own += (block * here).sum(0)
            if kind == "margin":
                rival = torch.maximum(rival, block.masked_fill(here, 0.0).amax(0))
            elif kind == "entropy":
                order += torch.xlogy(block, block).sum(0)
        if kind == "probability":
            return own.clamp(0.0, 1.0)
        if kind == "margin":
            return (own - rival).clamp(0.0, 1.0)
        return (1.0 + order / math.log(len(self.labels))).clamp(0.0, 1.0) if len(self.labels) > 1 else torch.ones(self.size)

    def abstain(self, threshold: float, kind: str = "probability") -> Segmentation:
        """The same result with `ignore_index` at the pixels that are less sure than a threshold.

        Scores and confidences of the pixels that stay are as they were; `shares` then sum to less than 1. Pixels that are ignored already
        stay so.

        Args:
            threshold: 0 … 1. Larger: fewer pixels keep a label, and fewer of these are wrong; 0 leaves none out.
            kind: which confidence, see `confidence`. The three have other scales, and so other thresholds.

        Raises:
            OptionError: a threshold out of range, or no such confidence.
        """
        if not 0.0 <= threshold <= 1.0:
            raise OptionError(f"Got the threshold {threshold:g}. Accepted is 0 to 1. Try 0.6, which asks for a probability of 6 in 10.")
        unsure = self.confidence(kind) < threshold
        return replace(self, segmentation=self.segmentation.masked_fill(unsure, self.ignore_index))

    def shares(self) -> dict[str, float]:
        """Name → share of the image's pixels, for every label; they sum to 1 unless pixels are ignored."""
        counts = self._counts()
        return {label.name: float(counts[index]) / self.segmentation.numel() for index, label in enumerate(self.labels)}

    def segments(self) -> list[dict[str, Any]]:
        """List the labels that are in the image, as Hugging Face's image-segmentation pipeline does.

        Returns:
            One ``{"label", "score", "mask"}`` a label, in id order: the name, the mean probability inside the mask, and the mask
            as a PIL image of mode L (255 inside, 0 outside) at the image's size.
        """
        counts = self._counts()
        valid = self.segmentation < len(self.labels)
        total = torch.zeros(len(self.labels), dtype=torch.float64)
        total.index_add_(0, self.segmentation[valid], self.confidence()[valid].double())
        return [
            {"label": label.name, "score": float(total[index] / counts[index]), "mask": self._mask(index)}
            for index, label in enumerate(self.labels)
            if counts[index] > 0
        ]

    def panoptic(self, *, parts: bool = False) -> dict[str, Any]:
        """The result as transformers' ``post_process_panoptic_segmentation`` gives one.

        Args:
            parts: False: all pixels of a label are one segment, and ``was_fused`` is True. True: each connected part of a label is one (two
                things that touch are one), but for the background's, which stay together.

        Returns:
            ``{"segmentation", "segments_info"}``: an (H, W) int32 tensor of segments' ids, from 1, with 0 where nothing is decided; and one
            ``{"id", "label_id", "was_fused", "score"}`` a segment, by label, then largest first. ``label_id`` is a key of `id2label`, the
            score the mean probability inside.
        """
        return transformers.panoptic(self._segments(parts=parts))

    def to_supervision(self, *, parts: bool = False) -> Any:
        """The result as ``supervision.Detections``, for its annotators, filters and data sets; takes the extra ``supervision``.

        Args:
            parts: False: a label is a detection. True: each connected part of a label is one.

        Returns:
            Detections with ``mask``, ``xyxy``, ``confidence`` (mean probability inside), ``class_id`` (a key of `id2label`) and
            ``data["class_name"]``, by label, then largest first. Pixels of the background, and those that are not decided, are in none.
            Memory is one byte a pixel and detection.

        Raises:
            MissingExtra: the library is not installed.
        """
        return supervision.detections(self._segments(parts=parts), self.id2label, skip=self.background)

    def overlay(self, *, alpha: float = 0.55, legend: bool = True, scale: int = 1) -> Image.Image:
        """Draw the labels over the image.

        Args:
            alpha: 0 shows the image, 1 the colours alone.
            legend: whether to add a strip with the labels' names below; the image is then taller (and wider, if a name needs it).
            scale: whole-number enlargement, for images too small to look at.
        """
        pixels, ids = self.image.pixels, self.segmentation.numpy()
        if scale > 1:
            pixels, ids = (part.repeat(scale, axis=0).repeat(scale, axis=1) for part in (pixels, ids))
        painted = paint(pixels, ids, len(self.labels), alpha=alpha, background=self.background)
        if not legend:
            return painted
        names = [label.name for label in self.labels]
        return with_legend(painted, names, list(self.shares().values()), background=self.background)

    def cutout(self, label: str | SupportsIndex) -> Image.Image:
        """The image where a label is, transparent elsewhere: mode RGBA, at the image's size.

        Args:
            label: as for ``result[label]``.

        Raises:
            LabelError: no such label.
        """
        alpha = self[label].numpy().astype(np.uint8) * 255
        return Image.fromarray(np.dstack([self.image.pixels, alpha]))

    @property
    def stem(self) -> str:
        """The image's name without folders and ending: what its files in a collection are called."""
        stem = names.stem(Path(self.image.name).name).replace("\0", "")
        return stem if stem.strip(".") else "picture"

    def save(self, path: str | Path, format: str | None = None, **options: Any) -> tuple[Path, ...]:
        """Write the result; files appear whole or not at all, an older file of the name is replaced, the image's own never.

        Args:
            path: where to; its folder must exist. For a collection (``coco``, ``voc``, …) the collection's own folder, made if it is not
                there; the image is then all it holds (`nerveseg.writers.save_all` writes many).
            format: a name in the registry kind ``writers``; None chooses by the path's ending (``.overlay.png`` before ``.png``).
            options: the writer's knobs.

        Returns:
            The files written.

        Raises:
            OutputError: an ending that no format has, too many labels for the format, a path that cannot be written or is the image's
                own, or a collection of other images there.
        """
        path = Path(path)
        name = format or _format_of(path)
        writer = registry.load("writers", name)
        chosen = registry.options(writer.Options, options, f"writers.{name}")
        with outputs.keeping(outputs.inputs(self.image.path), overwrite=True):
            if writer.part is None:
                return writer.write(self, path, chosen)
            _check_alone(path, self.stem)
            part = writer.part(self, path, self.stem, chosen)
            return (*writer.finish([part], path, chosen), *(path / file for file in part["files"]))

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        if self.temperature == 1.0:
            yield from self._plain()
        else:
            yield from tempering.tempered(self._plain, self.size, self.temperature)

    def _plain(self) -> Iterator[tuple[int, Tensor]]:
        if self.refined is not None:
            yield 0, self.refined
            return
        if self.strings is not None:
            yield from ((first, block.cpu()) for first, block in self.strings.shares(self.size))
            return
        yield from shares(self.probabilities, self.size, odds=self.odds)

    def _segments(self, *, parts: bool) -> Segments:
        ids, sure = self.segmentation.numpy(), self.confidence().numpy()
        return segments(ids, sure, len(self.labels), background=self.background, parts=parts)

    def _counts(self) -> Int64[Tensor, " K"]:
        known = self.segmentation[self.segmentation < len(self.labels)]
        return torch.bincount(known, minlength=len(self.labels))

    def _mask(self, index: int) -> Image.Image:
        return Image.fromarray((self.segmentation.numpy() == index).astype(np.uint8) * 255)


def _refine(maps: Tensor, image: LoadedImage, refiner: str, options: Any) -> Tensor:
    stage = registry.load("refiners", refiner)
    chosen = stage.Options() if options is None else options
    registry.check(chosen, f"refiner.{refiner}")
    return stage.refine(maps, image, chosen)


def _of(block: Tensor, ids: Tensor) -> Float[Tensor, "H W"]:
    """The block's value of the class at each pixel; 0 where the class is not in it."""
    inside = (ids >= 0) & (ids < block.shape[0])
    return block.gather(0, ids.clamp(0, block.shape[0] - 1)[None])[0].masked_fill_(~inside, 0.0)


def _sharper(logits: Logits, image: LoadedImage, refiner: str, options: Any) -> Logits:
    """Refine logits before their softmax: at the image's size, or at their own where the refiner works on the network's image."""
    maps = logits.maps.float()
    if not registry.load("refiners", refiner).own_size:
        maps = resample(maps, image.size)
    return replace(logits, maps=_refine(maps, image, refiner, options))


def _check_alone(folder: Path, stem: str) -> None:
    """Make the folder; refuse one whose record names other images, which one image would put out."""
    try:
        folder.mkdir(exist_ok=True)
        note = folder / "run.json"
        held = from_json(note.read_text(encoding="utf-8")) if note.is_file() else {}
    except (OSError, ValueError) as error:
        raise OutputError(f"Got the folder {folder} ({error}). Accepted is a new or an empty folder. Choose another.") from error
    held = held if isinstance(held, dict) else {}
    others = [image["stem"] for image in held.get("pictures", []) if image["stem"] != stem]
    if others:
        raise OutputError(
            f"Got the folder {folder}, which holds {len(others)} other images, as {others[0]}. Accepted is a new folder for one image. "
            "Choose another, or write all of them with nerveseg.writers.save_all."
        )


def _format_of(path: Path) -> str:
    found = {registry.load("writers", name).suffix: name for name in registry.names("writers")}
    fits = [suffix for suffix in found if suffix and path.name.lower().endswith(suffix) and len(path.name) > len(suffix)]
    if not fits:
        accepted = ", ".join(sorted(filter(None, found)))
        raise OutputError(f"Got the path {path}. Accepted endings are {accepted}. Change the ending, or name the format.")
    return found[max(fits, key=len)]
