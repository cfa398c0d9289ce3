"""What comes back is what the library says, in each of the three shapes."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nerveseg.server.answers import KINDS, chosen
from nerveseg.server.problems import Problem


@pytest.fixture(scope="module")
def alone(mini, scene):
    data, words = scene
    return mini(data, words)


def painted(content):
    """Ids from the coded masks, by the format's description, letter by letter."""
    height, width = content["size"]
    ids = np.full((height, width), content["ignore"])
    for segment in content["segments"]:
        runs, value, shift = [], 0, 0
        for letter in segment["rle"]["counts"]:
            group = ord(letter) - 48
            value += (group & 31) << shift
            shift += 5
            if not group & 32:
                if group & 16:
                    value -= 1 << shift
                runs.append(value + (runs[-2] if len(runs) > 2 else 0))
                value, shift = 0, 0
        assert sum(runs) == height * width
        assert sum(runs[1::2]) == segment["area"]
        place, inside = 0, False
        for run in runs:
            for pixel in range(place, place + run) if inside else ():
                ids[pixel % height, pixel // height] = segment["id"]
            place, inside = place + run, not inside
        rows, columns = np.nonzero(ids == segment["id"])
        left, top, wide, high = segment["box"]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + wide - 1, top + high - 1) == (columns.max(), rows.max())
    return ids


def ask(client, scene, accept, **fields):
    data, words = scene
    answer = client.post(
        "/v1/segment",
        files={"file": ("a.png", data)},
        data={"labels": ", ".join(words), **fields},
        headers={"accept": accept} if accept else {},
    )
    assert answer.status_code == 200, answer.text
    return answer


def test_a_png_holds_the_ids(real, scene, alone):
    answer = ask(real, scene, "image/png")
    assert answer.headers["content-type"] == "image/png"
    with Image.open(BytesIO(answer.content)) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), alone.segmentation.numpy())


def test_json_holds_a_mask_a_label(real, scene, alone):
    answer = ask(real, scene, "application/json")
    content = answer.json()
    assert np.array_equal(painted(content), alone.segmentation.numpy())
    assert [label["name"] for label in content["labels"]] == scene[1]
    assert content["background"] is None
    for segment, own in zip(content["segments"], alone.segments(), strict=True):
        assert segment["label"] == own["label"]
        assert segment["score"] == pytest.approx(own["score"], abs=1e-6)
    assert content["picture"] == alone.image.sha256
    assert "walk" in answer.headers["server-timing"]


def test_a_zip_holds_ids_record_and_overlay(real, scene, alone):
    answer = ask(real, scene, "application/zip")
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["labels.png", "labels.run.json", "labels.overlay.png"]
        ids = np.asarray(Image.open(BytesIO(archive.read("labels.png"))))
        run = json.loads(archive.read("labels.run.json"))
    assert np.array_equal(ids, alone.segmentation.numpy())
    assert [label["name"] for label in run["labels"]] == scene[1]
    assert run["picture"]["name"] == "a.png"


@pytest.mark.parametrize("accept", KINDS)
def test_the_same_request_has_the_same_bytes(serving, png, accept):
    client = serving()
    scene = (png(6, 9, 3), ["cat", "dog", "grass"])
    assert ask(client, scene, accept).content == ask(client, scene, accept).content


def test_an_image_unlike_those_that_the_networks_know_is_told_of(real):
    held = BytesIO()
    Image.effect_noise((120, 96), 80).convert("RGB").save(held, "PNG")
    file = {"file": ("noise.png", held.getvalue())}
    answer = real.post("/v1/segment", files=file, data={"labels": "cat, grass"}, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    assert "know drawn scenes only" in answer.json()["notes"][0]
    assert "know drawn scenes only" in real.post("/v1/encode", files=file).json()["notes"][0]


def test_encode_and_decode_answer_as_segment_does(real, scene, alone, mini):
    data, words = scene
    made = real.post("/v1/encode", files={"file": ("a.png", data)})
    assert made.status_code == 201
    handle = made.json()["handle"]
    assert made.headers["location"] == f"/v1/encode/{handle}"
    assert made.json()["size"] == list(alone.size)
    asked = {"handle": handle, "labels": [[words[0], "thing"], *words[1:]], "background": "auto", "settings": {"walk.alpha": 0.5}}
    answer = real.post("/v1/decode", json=asked, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    own = mini.decode(mini.encode(data), [f"{words[0]}; thing", *words[1:]], background="auto", settings={"walk.alpha": 0.5})
    assert np.array_equal(painted(answer.json()), own.segmentation.numpy())
    assert answer.json()["background"] == len(words)
    assert answer.json()["notes"] == ["'thing' is a word that the recipe's text tower was not trained on."]
    assert real.delete(f"/v1/encode/{handle}").status_code == 204
    assert real.post("/v1/decode", json=asked).status_code == 410


@pytest.mark.parametrize("field", ["clicks", "seeds"])  # what it is called, and what it was
def test_clicks_reach_the_decode(real, scene, mini, field):
    from nerveseg.clicks import Click

    data, words = scene
    handle = real.post("/v1/encode", files={"file": ("a.png", data)}).json()["handle"]
    clicks = [{"label": words[1], "points": [[5, 5]]}, {"label": "mine", "box": [60, 60, 80, 90], "strokes": [[[1, 90], [30, 90]]]}]
    answer = real.post("/v1/decode", json={"handle": handle, "labels": words, field: clicks}, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    own = mini.decode(
        mini.encode(data),
        words,
        clicks=[Click(words[1], points=[(5, 5)]), Click("mine", box=(60, 60, 80, 90), strokes=[[(1, 90), (30, 90)]])],
    )
    ids = painted(answer.json())
    assert np.array_equal(ids, own.segmentation.numpy())
    assert ids[5, 5] == 1
    assert answer.json()["labels"][-1]["name"] == "mine"


def test_fields_may_be_json(real, scene, alone):
    data, words = scene
    fields = {"labels": json.dumps(words), "background": "none", "settings": '{"walk.alpha": 0.98}'}
    answer = real.post("/v1/segment", files={"file": ("a.png", data)}, data=fields)
    assert np.array_equal(np.asarray(Image.open(BytesIO(answer.content))), alone.segmentation.numpy())


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "image/png"),
        ("*/*", "image/png"),
        ("application/*", "application/json"),
        ("image/png;q=0.1, application/zip", "application/zip"),
        ("image/png;q=0, */*;q=0.1", "application/json"),
        ("APPLICATION/JSON; charset=utf-8", "application/json"),
    ],
)
def test_accept_chooses(accept, kind):
    assert chosen(accept) == kind


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "image/png;q=nan", "image/png;q=x", ";;;", "image/jpeg"])
def test_an_accept_that_takes_nothing_is_refused(accept):
    with pytest.raises(Problem) as found:
        chosen(accept)
    assert found.value.status == 406
