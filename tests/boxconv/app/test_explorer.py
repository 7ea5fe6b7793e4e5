"""Answers about a photograph: labels as from `boxconv predict`, and pictures and boxes in the right places."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from data_trees import THREE, noise
from PIL import Image

from box_convolution import networks
from boxconv.analysis.importance import LayerImportance
from boxconv.app.explorer import Explorer
from boxconv.app.pictures import BOXES, LONGEST, boxes_at, heat_map
from boxconv.data.transforms import EvalTransform
from boxconv.errors import UsageError
from boxconv.inference.open import TrainedNetwork


def opened(url: str) -> Image.Image:
    start, _, content = url.partition(";base64,")
    assert start in ("data:image/png", "data:image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(content)))


def layer(boxes: list[list[float]], importance: list[float], map_size: tuple[int, int] = (3, 5)) -> LayerImportance:
    values = [torch.tensor(numbers, dtype=torch.float64) for numbers in (boxes, importance)]
    return LayerImportance("box", values[0], values[1], map_size, map_size, ("one",), ("two", (1, 1)))


def test_labels(explorer: Explorer, photo: bytes) -> None:
    answer = explorer.labels(photo)
    expected = explorer.network.predict(Image.open(io.BytesIO(photo)))
    assert np.array_equal(np.asarray(opened(answer["map"]).convert("RGB")), THREE.colourise(expected))
    assert opened(answer["photo"]).size == (answer["width"], answer["height"]) == (52, 36)
    shares = {entry["name"]: entry["share"] for entry in answer["shares"]}
    assert shares == {name: np.mean(expected == k) for k, name in enumerate(THREE.names) if (expected == k).any()}
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert {entry["colour"] for entry in answer["shares"]} <= {"#804080", "#00008e", "#006300"}
    assert answer["note"] == ""


def test_large_photographs_are_shown_smaller(explorer: Explorer) -> None:
    file = io.BytesIO()
    Image.new("RGB", (2 * LONGEST, LONGEST // 2)).save(file, "PNG")
    answer = explorer.labels(file.getvalue())
    assert opened(answer["map"]).size == opened(answer["photo"]).size == (LONGEST, LONGEST // 4)


def test_photographs_are_shown_upright_and_notes_are_passed_on(explorer: Explorer) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    Image.fromarray(noise("photo", (36, 52))).save(file, "JPEG", exif=exif)
    assert opened(explorer.labels(file.getvalue())["photo"]).size == (36, 52)
    file = io.BytesIO()
    Image.fromarray(noise("photo", (36, 52))[..., 0].astype(np.uint16)).save(file, "PNG")
    assert "read as 8 bits" in explorer.labels(file.getvalue())["note"]


def test_context(explorer: Explorer, photo: bytes) -> None:
    answer = explorer.context(photo, 0.5, 0.999)
    logits = explorer.network.model(explorer.network.transform.image(Image.open(io.BytesIO(photo)))[None])
    expected = logits[0, :, 12, 39].softmax(0)
    probabilities = {entry["name"]: entry["share"] for entry in answer["classes"]}
    assert probabilities == pytest.approx(dict(zip(THREE.names, expected.tolist(), strict=True)), abs=1e-5)
    assert list(probabilities.values()) == sorted(probabilities.values(), reverse=True)
    heat = opened(answer["heat"])
    assert (heat.mode, heat.size) == ("RGBA", (52, 36))
    assert 0 <= answer["radius"]["half"] <= answer["radius"]["most"] < 40


def test_a_network_of_other_channels_and_without_boxes(photo: bytes) -> None:
    model = networks.create("enet", len(THREE), input_size=(24, 40), in_channels=1).eval()
    transform = EvalTransform((24, 40), (0.5,), (0.2,))
    explorer = Explorer("grey", TrainedNetwork(model, THREE, transform, {}, {"name": "enet"}))
    assert explorer.about()["layers"] == []
    assert opened(explorer.labels(photo)["photo"]).size == (52, 36)
    assert explorer.context(photo, 0, 0)["classes"]
    with pytest.raises(UsageError, match="layer: expected one of none, got 'box'"):
        explorer.boxes("box", 0, 0)


def test_boxes_of_every_layer(explorer: Explorer) -> None:
    about = {"name": "mine", "classes": list(THREE.names), "height": 24, "width": 40, "layers": list(explorer.layers)}
    assert explorer.about() == about
    for name, found in explorer.layers.items():
        answer = explorer.boxes(name, 0.25, 0.75)
        assert (len(answer["boxes"]), answer["count"], answer["ranked"]) == (
            min(BOXES, len(found.boxes)), len(found.boxes), True,
        )  # fmt: skip
        assert max(box["weight"] for box in answer["boxes"]) == 1


# A map at 1/8 of 24 x 40 pixels. Its pixel (1, 2) covers rows 8..16 and columns 16..24.
ONE_PIXEL = [-0.5, 0.5, -0.5, 0.5]


@pytest.mark.parametrize("row, column", [(8 / 24, 16 / 40), (0.5, 0.5), (15.9 / 24, 23.9 / 40)])
def test_a_box_lies_around_the_pixel_of_the_map(row: float, column: float) -> None:
    boxes = boxes_at(layer([ONE_PIXEL, [-1.5, 0.5, -0.5, 1.0]], [0.5, 1.0]), (24, 40), row, column)
    expected = [
        {"top": 0.0, "bottom": 16 / 24, "left": 16 / 40, "right": 28 / 40, "weight": 1.0},
        {"top": 8 / 24, "bottom": 16 / 24, "left": 16 / 40, "right": 24 / 40, "weight": 0.5},
    ]
    assert boxes == [pytest.approx(box) for box in expected]


def test_a_map_of_a_padded_image() -> None:
    """An image of 20 rows is padded to 24, so the third row of the map reaches beyond the photograph."""
    (box,) = boxes_at(layer([ONE_PIXEL], [1.0]), (20, 40), 0.99, 0.0)
    assert box == pytest.approx({"top": 16 / 20, "bottom": 24 / 20, "left": 0.0, "right": 8 / 40, "weight": 1.0})


def test_which_boxes_are_shown() -> None:
    boxes = [[-0.5 - k, 0.5, -0.5, 0.5] for k in range(BOXES + 8)]
    ranked = boxes_at(layer(boxes, [float(k == 3) + 0.01 * k for k in range(BOXES + 8)]), (24, 40), 0.5, 0.5)
    assert len(ranked) == BOXES
    assert [box["top"] for box in ranked] == sorted(box["top"] for box in ranked)  # large ones lie below small ones
    assert ranked[-1]["weight"] == 1
    unranked = boxes_at(layer(boxes, [float("nan")] * (BOXES + 8)), (24, 40), 0.5, 0.5)
    assert {box["weight"] for box in unranked} == {1.0}
    assert unranked[-1]["top"] == pytest.approx((8 - 8 * 8) / 24)  # the eight smallest are left out


def test_the_heat_map_is_bright_where_the_response_is() -> None:
    response = np.zeros((24, 40))
    response[6, 30] = 2.0
    strength = np.asarray(opened(heat_map(response, (80, 48))))[..., 3]
    row, column = np.unravel_index(strength.argmax(), strength.shape)
    assert (abs(row - 12.5) <= 1, abs(column - 60.5) <= 1, strength.max(), strength[40, 10]) == (True, True, 255, 0)
    assert not np.asarray(opened(heat_map(np.zeros((24, 40)), (80, 48))))[..., 3].any()


@pytest.mark.parametrize("row, column", [(-0.1, 0), (0, 1), (float("nan"), 0), (0, float("inf"))])
@pytest.mark.parametrize("ask", [lambda e, *at: e.boxes(*list(e.layers)[:1], *at), lambda e, *at: e.context(b"", *at)])
def test_places_outside(explorer: Explorer, ask: Any, row: float, column: float) -> None:
    with pytest.raises(UsageError, match="row and column must be at least 0 and less than 1, got "):
        ask(explorer, row, column)
