"""The one file that wires the stages; read it first.

encode:  image → label source's features, graph's heads                    the two networks, once an image
decode:  words → scores → G → S → P → label map                              no network, any number of times
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg import _renamed, backbones, clicks, registry, transition
from nerveseg import recipe as recipes
from nerveseg.backbones import familiar
from nerveseg.backbones.batching import answered, foreseen
from nerveseg.backbones.device import device_and_dtype
from nerveseg.backbones.familiar import Familiar, UnfamiliarImageWarning
from nerveseg.backbones.memory import enough
from nerveseg.backbones.offload import OffloadedNetworks
from nerveseg.backbones.shared_networks import SharedNetworks, turn
from nerveseg.clicks import Click, Correction, Solved, parted, solved
from nerveseg.errors import OptionError, RecipeError
from nerveseg.image import LoadedImage, load_image, tiles
from nerveseg.image.load_many import apart, map_threads
from nerveseg.labels import _tiles
from nerveseg.labels._text_embedding import Ask, TextEmbedder, UntrainedWordWarning
from nerveseg.labels._visual import token_vectors
from nerveseg.labels.base import Features, Scores, Words
from nerveseg.masks.rules.base import score_grid_of
from nerveseg.postprocess import Digests, Labelling, StageTimer, decided, logits_of
from nerveseg.recipe import Recipe
from nerveseg.reprs import brief
from nerveseg.segmentation import Segmentation
from nerveseg.transition import Heads, TiledHeads, Transition
from nerveseg.weights.locate import Folder, locate_all
from nerveseg.words.vocabulary import Background, Vocabulary, need_background

__all__ = ["Encoding", "Labelling", "Segmenter", "UnfamiliarImageWarning", "UntrainedWordWarning"]


@dataclass(frozen=True, eq=False)
class Encoding:
    """What the networks say of one image: all that `Segmenter.decode` needs, whatever the words.

    Attributes:
        image: what was encoded.
        features: the label source's part.
        heads: the graph's part, that of each tile where there are tiles; None where the recipe has no graph.
        recipe: the recipe it was made by.
        seconds: stage → seconds.
    """

    image: LoadedImage
    features: Features
    heads: Heads | TiledHeads | None
    recipe: Recipe
    seconds: Mapping[str, float]

    __repr__ = brief
    picture = _renamed.attribute("picture", "image")

    @property
    def bytes(self) -> int:
        """Memory it holds, the image included."""
        return self.features.bytes + (self.heads.bytes if self.heads else 0) + self.image.pixels.nbytes


@dataclass(frozen=True, eq=False)
class Segmenter:
    """Label every pixel of images by words. Make one with `from_pretrained`; call it, or `encode` once and `decode` often.

    Attributes:
        recipe: every choice and knob.
        networks: backbone → network, those that the recipe's stages need (``clip``, ``diffusion``, ``dino``, …).
        folders: backbone → where its weights came from.
        device: where the networks and the walk run.
        dtype: of the networks; G, S and P are float32.
        familiar: what the images of the networks' training look like, where their folders say so; others get a note and a warning.

    Any number of threads may call one: its networks serve one of them at a time, and so do segmenters that share networks.
    """

    recipe: Recipe
    networks: Mapping[str, Any]
    folders: Mapping[str, Folder]
    device: torch.device
    dtype: torch.dtype
    familiar: Familiar | None = None
    _texts: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False)
    _lock: AbstractContextManager[Any] = field(default_factory=threading.RLock, repr=False)

    @property
    def turn(self) -> AbstractContextManager[Any]:
        """What whoever uses the networks holds, ``with segmenter.turn:``; a thread that holds it may call the segmenter."""
        return turn(self.networks, self._lock)

    __repr__ = brief

    @classmethod
    def from_pretrained(
        cls,
        recipe: str | Path | Recipe = "nerve",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        offline: bool = False,
        low_memory: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> Segmenter:
        """Load the networks that a recipe needs.

        Args:
            recipe: a name (``nerveseg recipes list``), a .toml file, or a folder with ``recipe.toml``.
            device: "cpu", "cuda", "mps", …; None takes CUDA or MPS where there is one.
            dtype: of the networks: float32, float16, bfloat16; None is float32, on CUDA float16.
            revision: of checkpoints that come from a hub.
            offline: never ask the network; a hub's local cache still counts.
            low_memory: keep networks on the CPU, and only one stage's on the device at a time. Slower; on the CPU it changes nothing.
            settings: knobs by dotted name, as ``{"walk.alpha": 0.95}``.

        Raises:
            WeightsNotFound, WeightsError: weights. RecipeError, RegistryError, OptionError: the recipe. OutOfMemory: they do not fit.
        """
        chosen = recipes.load(recipe, settings)
        place, kind = device_and_dtype(device, dtype)
        lacking = [name for name in chosen.needs if name not in chosen.weights]
        if lacking:
            needed = ", ".join(chosen.needs)
            raise RecipeError(f"Got the recipe {chosen.name!r} without weights for {lacking[0]}. Needed are {needed}. Add it to [weights].")
        refs = {name: recipes.beside(recipe, chosen.weights[name]) for name in chosen.needs}
        folders = locate_all(refs, offline=offline, revision=revision, asked=chosen.fetched_as)
        lower = "Use low_memory, dtype = 'float16', or a recipe of smaller networks."
        with enough("these networks", lower), torch.random.fork_rng(devices=[]):  # from_pretrained draws weights, then reads them
            home = torch.device("cpu") if low_memory else place
            networks = {name: backbones.load(name, folder.path, device=home, dtype=kind) for name, folder in folders.items()}
        held = SharedNetworks(networks) if home == place else OffloadedNetworks(networks, chosen.stages, place)
        return cls(chosen, held, folders, place, kind, familiar.of_folders([folder.path for folder in folders.values()]))

    @_renamed.keywords(pictures="images")
    def __call__(self, images: Any, labels: Any, *, background: Any = None, batch: int = 1) -> Any:
        """Segment one image, a list of them, or as many as an iterator gives.

        Args:
            images: a path, bytes, an open file, a PIL image, an array or a tensor (see `nerveseg.image.load`); or a list or an iterator
                of these.
            labels: words in the order of their ids; ``"cat; kitten"`` joins synonyms. A list, a dict, a line of words, or a Path of a file.
            background: None – every pixel gets one of the labels; "auto", or words as for labels – what is none of them becomes
                ``background``.
            batch: of a list: images whose passes are put together where the networks see them at one size. Larger: faster on an
                accelerator, more memory; on the CPU it saves nothing.

        Returns:
            One `Segmentation`; of a list, a list in the images' order; of an iterator or generator, an iterator, which takes ``batch``
            images at a time and keeps none.
        """
        vocabulary = Vocabulary.parse(labels)
        background = Background.parse(background, vocabulary)
        need_background(vocabulary, background)  # bad words cost no network pass
        if batch < 1:
            raise OptionError(f"Got batch = {batch}. Accepted is 1 or more. Use 1 for one image at a time.")
        if isinstance(images, (list, tuple)):
            return list(self._each(iter(images), vocabulary, background, batch))
        if isinstance(images, Iterator) and not hasattr(images, "read"):  # an open file is an iterator of lines, too
            return self._each(images, vocabulary, background, batch)
        return self.decode(self.encode(images), vocabulary, background=background)

    def _each(self, images: Iterator[Any], vocabulary: Vocabulary, background: Any, batch: int) -> Iterator[Segmentation]:
        while some := list(islice(images, batch)):
            for encoding in self.encode_many(some):
                yield self.decode(encoding, vocabulary, background=background)

    @_renamed.keywords(picture="image")
    def encode(
        self,
        image: Any,
        *,
        seed: int | None = None,
        noise: Float[Tensor, "1 c h w"] | None = None,
        features: Features | None = None,
        tile: int | None = None,
        overlap: float = tiles.OVERLAP,
        watch: StageTimer | None = None,
    ) -> Encoding:
        """Pass an image through the networks, once for any words.

        Args:
            image: as in `__call__`, or a `LoadedImage`.
            seed: of the diffusion noise, the label source's and the graph's; None takes the recipe's.
            noise: the noise itself, of the latents' shape, for both; with tiles of one tile's, the same in each.
            features: the label source's part, where it is there already; the source then looks at nothing.
            tile: for big images: side in pixels of tiles, each of which the networks see as they see a whole image; one walk goes over
                all of them. Smaller: finer, more passes, and what a network takes from far away is lost. None: the image as a whole,
                as is an image of one tile. What is read from files is read for the whole image.
            overlap: share of a tile's side that its neighbour has, too, 0 … below 1. Larger: smoother, more tiles.
            watch: counts the seconds, and may tell of stages as they begin.

        Raises:
            OptionError: ``tile`` or ``overlap`` out of range.
        """
        loaded, watch = self._read(image, watch)
        found: Mapping[str, Any] = {}
        if tile is not None:
            looks: dict[str, Any] = {}  # what is there already, or is read from files, is of the whole image
            if features is None and self.recipe.labels.module.needs:
                looks["label network"] = partial(self._features, seed=seed, noise=noise)
            if self.recipe.graph is not None and self.recipe.graph.module.needs:
                looks["graph network"] = partial(self._heads, seed=seed, noise=noise)
            with self.turn, enough(), torch.inference_mode():
                loaded, found = _tiles.seen(loaded, tile, overlap, looks, self.networks, self.recipe.needs_twice, watch)
        shared = backbones.shared(self.networks, self.recipe.needs_twice)
        return self._encode(loaded, watch, shared, seed, noise, found.get("label network", features), found.get("graph network"))

    @_renamed.keywords(pictures="images")
    def encode_many(self, images: Sequence[Any], *, seeds: Sequence[int | None] | None = None) -> list[Encoding]:
        """Encode images together: passes of one network over images that it sees at one size are one pass.

        Equal to a loop over `encode` up to 1e-4, and in its order; windows, and networks that take turns (``low_memory``), go one by one.
        Seconds of shared passes are not counted to any image.

        Args:
            images: as in `__call__`, or `LoadedImage`s.
            seeds: of each image's diffusion noise; None takes the recipe's.
        """
        own = [None] * len(images) if seeds is None else list(seeds)
        if len(own) != len(images):
            raise OptionError(f"Got {len(own)} seeds for {len(images)} images. Accepted is one an image. Leave them out for the recipe's.")
        read = map_threads(self._read, images) if apart(images) else [self._read(image) for image in images]
        seen = [loaded.keeping() for loaded, _ in read]
        if len(read) < 2 or isinstance(self.networks, OffloadedNetworks):
            ready = [backbones.shared(self.networks, self.recipe.needs_twice) for _ in read]
        else:
            with self.turn, enough(), torch.inference_mode():
                ready = answered(
                    self.networks,
                    list(zip(seen, own, strict=True)),
                    [
                        lambda item, networks: self._features(item[0], networks, item[1], None),
                        lambda item, networks: self._heads(item[0], networks, item[1], None),
                    ],
                )
        made = (
            self._encode(image, watch, shared, seed, None, None, None)
            for image, (_, watch), shared, seed in zip(seen, read, ready, own, strict=True)
        )
        # An encoding that is kept holds no tensor that a network was given.
        return [dataclasses.replace(encoding, image=loaded) for encoding, (loaded, _) in zip(made, read, strict=True)]

    def _read(self, image: Any, watch: StageTimer | None = None) -> tuple[LoadedImage, StageTimer]:
        watch = watch or StageTimer()
        with watch("read"):
            return familiar.noted(image if isinstance(image, LoadedImage) else load_image(image), self.familiar), watch

    def _encode(
        self,
        loaded: LoadedImage,
        watch: StageTimer,
        shared: Mapping[str, Any],
        seed: int | None,
        noise: Float[Tensor, "1 c h w"] | None,
        features: Features | None,
        heads: Heads | TiledHeads | None,
    ) -> Encoding:
        seen = loaded.keeping() if loaded.made is None else loaded
        with self.turn, enough(), torch.inference_mode():
            with watch("label network"), self._ahead(seen, shared, alone=not seen.made and features is None and heads is None):
                kept = self._features(seen, shared, seed, noise) if features is None else features
            with watch("graph network"):
                heads = self._heads(seen, shared, seed, noise) if heads is None else heads
        return Encoding(loaded, kept, heads, self.recipe, watch.seconds)

    def _ahead(self, seen: LoadedImage, shared: Mapping[str, Any], *, alone: bool) -> AbstractContextManager[None]:
        """Resize for the graph's network while the label source's is at work, where nothing was made of the image yet."""
        graph = self.recipe.graph
        if not alone or graph is None or not graph.module.needs or isinstance(shared, OffloadedNetworks):
            return nullcontext()
        return foreseen(shared, seen, lambda image, networks: self._heads(image, networks, None, None))

    @_renamed.keywords(seeds="clicks")
    def decode(
        self,
        encoding: Encoding,
        labels: Any,
        *,
        background: Any = None,
        clicks: Sequence[Click] = (),
        settings: Mapping[str, Any] | None = None,
        watch: StageTimer | None = None,
    ) -> Segmentation:
        """Label an encoded image: no network pass but for words not met before.

        Args:
            encoding: from `encode`.
            labels: as in `__call__`.
            background: as in `__call__`.
            clicks: pixels whose labels are known, later ones win; a label that is not among the words is new, by its clicks alone.
            settings: knobs by dotted name for this call; those of [weights] and [graph] belong to `encode` and are refused. Those of
                clicks are ``clicks.alpha`` and so on, see `nerveseg.clicks.Options`.
            watch: counts the seconds, and may tell of stages as they begin.

        Raises:
            LabelError: words that cannot become labels. OptionError: a knob, or a click.
        """
        vocabulary = Vocabulary.parse(labels)
        beside = Background.parse(background, vocabulary)
        placed = tuple(clicks)
        knobs, others = parted(settings)
        recipe, watch = self._for_decode(encoding, others), watch or StageTimer()
        if placed:
            with enough(), torch.inference_mode():
                ground = self._ground(encoding, vocabulary, beside, recipe, knobs, watch)
                found = solved(ground, placed)
                return self._decided(encoding, beside, recipe, watch, found)
        need_background(vocabulary, beside)
        with enough(), torch.inference_mode():
            inside = self.label(encoding, vocabulary, beside, recipe=recipe, watch=watch)
            return self._decided(encoding, beside, recipe, watch, Solved(vocabulary, inside, inside.P, inside.walk))

    def correct(
        self, encoding: Encoding, labels: Any, *, background: Any = None, settings: Mapping[str, Any] | None = None
    ) -> Correction[Segmentation]:
        """Begin to correct a labelling by hand; `Correction.add` then takes a seed at a time.

        Args:
            encoding: from `encode`.
            labels: as in `__call__`.
            background: as in `__call__`.
            settings: as in `decode`.

        Returns:
            A correction without a seed, whose ``result`` is that of `decode`.
        """
        vocabulary = Vocabulary.parse(labels)
        beside = Background.parse(background, vocabulary)
        need_background(vocabulary, beside)
        knobs, others = parted(settings)
        recipe, watch = self._for_decode(encoding, others), StageTimer()
        with enough(), torch.inference_mode():
            ground = self._ground(encoding, vocabulary, beside, recipe, knobs, watch, often=True)
            start = Solved(vocabulary, ground.inside, ground.P, ground.inside.walk)
            return Correction(ground, start, self._decided(encoding, beside, recipe, watch, start), (), watch.seconds)

    def _ground(
        self,
        encoding: Encoding,
        vocabulary: Vocabulary,
        background: Background | None,
        recipe: Recipe,
        knobs: clicks.Options,
        watch: StageTimer,
        *,
        often: bool = False,
    ) -> clicks.Ground[Segmentation]:
        """What stays over clicks, and how the rest is made anew."""
        inside = self.label(encoding, vocabulary, background, recipe=recipe, watch=watch)
        words, source, heads, S = self._words(vocabulary, background, recipe), recipe.labels, inside.heads, inside.S
        if S is None and heads is not None:
            S = transition.build(heads, inside.G, options=recipe.transition, kernel_options=recipe.kernel.options)

        def score(asked: Words, labels: int) -> Labelling:
            return dataclasses.replace(self._scored(encoding, asked, recipe, labels), S=inside.S)

        def again(made: Labelling) -> Tensor:
            if recipe.walk is None or heads is None:
                return made.G
            return recipe.walk.module.solve(heads, made.G, recipe.walk.options).probabilities

        ground = clicks.Ground(
            vocabulary=vocabulary,
            background=background,
            words=words,
            size=encoding.image.size,
            image=encoding.image,
            grid=inside.grid,
            P=inside.P,
            inside=inside,
            walk=inside.walk,
            S=S,
            walk_alpha=None if inside.S is None or recipe.walk is None else recipe.walk.options.alpha,
            Z=token_vectors(source.module, encoding.features, words.vectors.shape[1]),
            source_grid=encoding.features.grid,
            score=score,
            again=again,
            decide=lambda found: self._decided(encoding, background, recipe, StageTimer(), found),
            options=knobs,
        )
        with watch("clicks"):
            return clicks.prepare(ground, often=often)

    def _decided(self, encoding: Encoding, background: Background | None, recipe: Recipe, watch: StageTimer, found: Solved) -> Segmentation:
        result = decided(found, encoding.image, background, recipe, Digests(self.folders), watch)
        return dataclasses.replace(result, seconds=MappingProxyType({**encoding.seconds, **result.seconds}))

    def label(
        self,
        encoding: Encoding,
        vocabulary: Vocabulary,
        background: Background | None = None,
        *,
        recipe: Recipe | None = None,
        watch: StageTimer | None = None,
    ) -> Labelling:
        """Words and an encoding → G, S and P on the token grid; what `decode` decides from."""
        chosen, clock = recipe or encoding.recipe, watch or StageTimer()
        with torch.inference_mode():
            with clock("words"):
                words = self._words(vocabulary, background, chosen)
            with clock("labels"):
                inside = self._scored(encoding, words, chosen, len(vocabulary))
            heads, G = inside.heads, inside.G
            if heads is None or chosen.walk is None:
                return inside
            S: Transition | None = None
            if chosen.walk.module.needs == "S":
                with clock("transition"):
                    S = transition.build(heads, G, options=chosen.transition, kernel_options=chosen.kernel.options)
            with clock("walk"):
                walk = chosen.walk.module.solve(heads if S is None else S, G, chosen.walk.options)
        return dataclasses.replace(inside, S=S, walk=walk)

    def _scored(self, encoding: Encoding, words: Words, recipe: Recipe, labels: int) -> Labelling:
        """G and what else there is before a walk; labels past those that have words get columns of zeros."""
        source, early = recipe.labels, recipe.upsample == "logits"
        asks = source.module.text_conditioned or isinstance(
            self.networks, OffloadedNetworks
        )  # to look at one of those brings it to the device
        with self.turn if asks else nullcontext():
            scores = _tiles.score(source.module, encoding.features, words, self.networks, source.options, logits=early)
        heads = encoding.heads or scores.heads
        grid = heads.grid if heads else scores.grid
        rows = recipe.calibration.module.calibrate(scores.to_G(grid).to(self.device), recipe.calibration.options, rest=True)
        G = clicks.wider(rows, labels + 1)
        scale = scores.divisor(grid) if recipe.calibration.name == "none" else 1.0
        if heads is None or recipe.walk is None:
            return Labelling(G, None, None, grid, logits_of(scores, recipe), scale, heads=heads)
        own = self._own(scores, grid, scale, recipe)
        if own is not None:
            own = clicks.wider(own.flatten(1).T, labels + 1).T.unflatten(1, scores.grid)
        return Labelling(G, None, None, grid, scale=scale, own=own, heads=heads)

    def _own(self, scores: Scores, grid: tuple[int, int], scale: float, recipe: Recipe) -> Float[Tensor, "k g v"] | None:
        if scores.grid == grid or score_grid_of(recipe.rule.module, recipe.rule.options) == "walk":
            return None
        rows = recipe.calibration.module.calibrate(scores.to_G(scores.grid).to(self.device), recipe.calibration.options, rest=True)
        factor = scores.divisor(scores.grid) / scale if recipe.calibration.name == "none" else 1.0
        return (rows * factor).T.unflatten(1, scores.grid)

    def _features(self, image: LoadedImage, networks: Mapping[str, Any], seed: int | None, noise: Tensor | None) -> Features:
        module, options = self.recipe.labels.module, self.recipe.labels.options
        draws = module.draws_noise
        options = _seeded("labels", options, seed) if draws and seed is not None else options
        given = {"noise": noise} if draws and noise is not None else {}
        return module.encode(module.look(image, networks, options), networks, options, **given)

    def _heads(self, image: LoadedImage, networks: Mapping[str, Any], seed: int | None, noise: Tensor | None) -> Heads | None:
        graph = self.recipe.graph
        if graph is None:
            return None
        options = graph.options if seed is None else _seeded("graph", graph.options, seed)
        heads: Heads = graph.module.heads(image, networks, options, noise=noise)
        # Heads that come from a file lie on the CPU.
        return heads if heads.queries.device.type == self.device.type else heads.to(self.device)

    def _words(self, vocabulary: Vocabulary, background: Background | None, recipe: Recipe) -> Words:
        texts = TextEmbedder(self.networks, self.folders, self.device, self.dtype, self._texts, self.turn)
        return texts.words(vocabulary, background, Ask(recipe.labels.module.embeds, recipe.templates, recipe.name))

    def _for_decode(self, encoding: Encoding, settings: Mapping[str, Any] | None) -> Recipe:
        recipe = encoding.recipe.changed(settings or {})
        for dotted in settings or {}:
            part = dotted.partition(".")[0]
            fixed = part in ("weights", "graph") or (
                part == "labels" and dotted.partition(".")[2] not in recipe.labels.module.decode_options
            )
            if fixed:
                raise OptionError(
                    f"Got the setting {dotted!r} for decode. Accepted are knobs that need no network pass. "
                    "Give it to Segmenter.from_pretrained and encode again."
                )
        return recipe


def _seeded(table: str, options: Any, seed: int) -> Any:
    changed = dataclasses.replace(options, seed=seed)
    registry.check(changed, table)
    return changed
