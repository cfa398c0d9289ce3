from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from nerveseg import refinement
from nerveseg.errors import OptionError, OutputError
from nerveseg.image import arrays, load_image
from nerveseg.labels import base
from nerveseg.labels import saved as source
from nerveseg.masks.upsampled_logits import UpsampledLogits
from nerveseg.segmentation import Segmentation
from nerveseg.synthetic import scenes
from nerveseg.words import Label
from nerveseg.writers import scores

NAMES = ("cat", "naïve 🐈", 'quote " and \\')


def result(size=(20, 30), names=NAMES, grid=(5, 6), **more):
    probabilities = torch.rand(len(names), *grid, generator=torch.Generator().manual_seed(0)) / len(names)
    image = load_image(Image.new("RGB", size[::-1]), name="a.jpg")
    labels = tuple(Label(name, (name, "synonym")) for name in names)
    return Segmentation(torch.zeros(size, dtype=torch.int64), probabilities, labels, image, **more)


def test_every_pixel_has_its_scores(tmp_path):
    made = result(recipe="mini", background=2)
    (path,) = made.save(tmp_path / "a.scores.safetensors")
    with safe_open(path, framework="np") as file:
        assert list(file.keys()) == ["scores"]
        found, told = file.get_tensor("scores"), file.metadata()
    np.testing.assert_array_equal(found, made.segmentation_scores.half().numpy())
    np.testing.assert_allclose(found.astype("f8").sum(0), 1, atol=2e-3)
    assert json.loads(told["labels"]) == list(NAMES)
    assert (told["background"], told["at"]) == ("2", "picture")
    assert json.loads(told["run"])["picture"]["sha256"] == made.image.sha256
    assert json.loads(told["run"])["labels"][0]["strings"] == ["cat", "synonym"]


def test_the_grid_is_as_the_walk_leaves_it(tmp_path):
    made = result()
    (path,) = made.save(tmp_path / "a.scores.safetensors", at="grid")
    with safe_open(path, framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("scores"), made.probabilities.half().numpy())
        assert "background" not in file.metadata()
        assert file.metadata()["at"] == "grid"


@pytest.mark.parametrize("way", ["refined", "strings"])
def test_scores_that_were_made_another_way(tmp_path, way):
    values = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(1))
    values /= values.sum(0)
    more = {"refined": values} if way == "refined" else {"strings": UpsampledLogits(base.Logits(values[:, :4, :5], (0, 1, 2), 10.0, "max"))}
    made = result(**more)
    (path,) = made.save(tmp_path / "a.scores.safetensors")
    saved = arrays.read(path)
    torch.testing.assert_close(saved.floats("scores", "K, h, w"), made.segmentation_scores.half().float(), atol=0, rtol=0)
    assert saved.labels == NAMES


def test_three_hundred_labels_in_many_blocks(tmp_path, monkeypatch):
    names = tuple(f"thing {number}" for number in range(300))
    made = result(names=names)
    whole = made.segmentation_scores.half()
    monkeypatch.setattr("nerveseg.masks.upsample.shares.__kwdefaults__", {"budget": 4 * 20 * 30 * 7, "divide": True})
    (path,) = made.save(tmp_path / "a.scores.safetensors")
    saved = arrays.read(path)
    torch.testing.assert_close(saved.arrays["scores"], whole, atol=0, rtol=0)
    assert saved.labels == names


def test_all_scores_are_never_held(tmp_path):
    """60 labels at 1024×1024 are 240 MiB as float32; a few blocks of 16 MiB are held. NumPy's share is traced, torch's is its blocks."""
    made = result((1024, 1024), tuple(map(str, range(60))))
    sizes = [block.numel() * 4 for _, block in made.score_blocks()]
    assert max(sizes) <= 1 << 24
    assert sum(sizes) == 4 * 60 << 20
    tracemalloc.start()
    made.save(tmp_path / "a.scores.safetensors")
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert (tmp_path / "a.scores.safetensors").stat().st_size == pytest.approx(60 * 2 << 20, rel=1e-3)


def test_the_label_source_saved_reads_them(tmp_path):
    made = result()
    made.save(tmp_path / "a.scores.safetensors")
    options = source.Options(path=str(tmp_path))
    features = source.encode(source.look(made.image, {}, options), {}, options)
    rows = torch.zeros(2, 0)
    found = source.score(features, base.Words((NAMES[1], "cat"), (0, 1), (), rows, rows[:0]), {}, options)
    assert found.grid == (20, 30)
    torch.testing.assert_close(found.values, made.segmentation_scores[[1, 0]].half().float().flatten(1).T, atol=0, rtol=0)


@pytest.fixture(scope="module")
def walker():
    return refinement.walker("mini")


@pytest.mark.parametrize("at", ["picture", "grid"])
def test_a_walk_takes_them_again(tmp_path, mini, walker, at):
    """Refining the file is refining its maps; with a background, the file's own is the rest."""
    scene = scenes.render("val", 3, (64, 80), (1, 2))
    made = mini(scene.image, ["cat", "hat", "water"], background="auto")
    (path,) = made.save(tmp_path / "a.scores.safetensors", at=at)
    maps = made.segmentation_scores if at == "picture" else made.probabilities
    same = refinement.refine(maps.half(), scene.image, recipe=walker, labels=[*made.label2id])
    found = refinement.refine(path, scene.image, recipe=walker)
    assert found.id2label == made.id2label
    torch.testing.assert_close(found.probabilities, same.probabilities, atol=0, rtol=0)
    expected = refinement.refine(maps[:3].half(), scene.image, recipe=walker, labels=["cat", "hat", "water"], background="auto")
    found = refinement.refine(path, scene.image, recipe=walker, background="auto")
    assert found.id2label == made.id2label
    assert found.background == 3
    torch.testing.assert_close(found.probabilities, expected.probabilities, atol=0, rtol=0)


def test_it_starts_where_it_says_and_has_no_time(tmp_path):
    first, again = (result(background=0).save(tmp_path / name)[0].read_bytes() for name in ("a.scores.safetensors", "b.scores.safetensors"))
    assert first == again
    assert int.from_bytes(first[:8], "little") % 8 == 0


def test_bad_knobs_and_a_full_disk(tmp_path, monkeypatch):
    with pytest.raises(OptionError, match="grid"):
        result().save(tmp_path / "a.scores.safetensors", at="token")

    def full(self):
        yield from ()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Segmentation, "score_blocks", full)
    with pytest.raises(OutputError, match="No space left"):
        scores.write(result(), tmp_path / "a.scores.safetensors", scores.Options())
    assert list(tmp_path.iterdir()) == []
