"""Tiles: weights that add up to 1, smooth seams, few rows in memory, and options that are accepted or refused."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from box_convolution import networks
from boxconv.data.bands import from_pillow
from boxconv.data.class_table import DataError
from boxconv.data.large_images import LargeImage
from boxconv.data.layouts.camvid import CAMVID
from boxconv.data.transforms import EvalTransform
from boxconv.errors import UsageError
from boxconv.inference import averaging
from boxconv.inference.averaging import averaged
from boxconv.inference.open import TrainedNetwork
from boxconv.inference.options import InferenceOptions
from boxconv.inference.score_patches import enlarged, label_map, scores_of, scores_of_image
from boxconv.inference.tiles import blended, count_tiles, spans

AXES = [(64, 64, 16), (10, 64, 16), (65, 64, 0), (200, 64, 16), (200, 64, 48), (201, 64, 63), (1000, 64, 1)]


@pytest.mark.parametrize("length, tile, overlap", AXES)
def test_weights_along_an_axis_add_up_to_one(length, tile, overlap):
    found = spans(length, tile, overlap)
    total = torch.zeros(length)
    for span in found:
        assert span.weight.shape == (span.stop - span.start,)
        assert (span.weight > 0).all()
        total[span.start : span.stop] += span.weight
    torch.testing.assert_close(total, torch.ones(length))
    assert (found[0].start, found[-1].stop) == (0, length)
    assert all(span.stop - span.start == min(tile, length) for span in found)
    assert all(a.stop - b.start >= overlap for a, b in itertools.pairwise(found))


def test_weights_are_smooth_but_full_at_the_edges_of_the_image():
    first, second = spans(112, 64, 16)
    assert (first.weight[:48] == 1).all()
    assert (second.weight[16:] == 1).all()
    assert first.weight.diff().abs().max() < 0.1, "a hard seam would fall by 1"
    assert (first.weight.diff() <= 0).all()


def strips_of(images, held=None):
    """Strips of a batch for `blended`; the number of rows of each is added to ``held``."""

    def strips(rows):
        for top, bottom in rows:
            if held is not None:
                held.append(bottom - top)
            yield lambda left, right, top=top, bottom=bottom: images[:, :, top:bottom, left:right]

    return strips


def test_every_tile_is_blended_with_its_neighbours():
    """Every tile has its own constant score; the result must be the mean with the weights of `spans`."""
    h, w, tile, overlap = 150, 210, 64, 24
    numbers = iter(range(1, 1000))

    def scores(images):
        return torch.full((1, 2, *images.shape[2:]), float(next(numbers)))

    found = torch.full((2, h, w), float("nan"))
    for patch in blended(strips_of(torch.zeros(1, 3, h, w)), scores, (h, w), tile, overlap):
        place = found[:, patch.top : patch.top + patch.scores.shape[2], patch.left : patch.left + patch.scores.shape[3]]
        assert place.isnan().all(), "no pixel comes twice"
        place.copy_(patch.scores[0])
    expected, number = torch.zeros(h, w), 0
    for row in spans(h, tile, overlap):
        for column in spans(w, tile, overlap):
            number += 1
            weight = row.weight[:, None] * column.weight
            expected[row.start : row.stop, column.start : column.stop] += number * weight
    torch.testing.assert_close(found, expected.expand(2, h, w))
    assert number == count_tiles((h, w), tile, overlap) == 4 * 5


class Local(nn.Module):
    """Scores of three classes from the 3 x 3 pixels around each."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1, padding_mode="replicate")
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(self.layer.weight.shape, generator=torch.Generator().manual_seed(3)))

    def forward(self, images):
        return self.layer(images)


def noise(h, w, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8))


@torch.no_grad()
def test_a_network_that_sees_little_loses_nothing():
    """Away from the edges of tiles it sees the same as in the whole image; near them, the weights are small."""
    images = torch.randn(2, 3, 130, 170, generator=torch.Generator().manual_seed(0))
    model = Local()
    whole = model(images).softmax(1)
    tiled = torch.zeros_like(whole)
    for top, left, scores in scores_of(model, images, (130, 170), InferenceOptions(tile=64, overlap=32)):
        tiled[:, :, top : top + scores.shape[2], left : left + scores.shape[3]] = scores
    apart = (tiled - whole).abs()
    assert apart.max() < 0.02, "weights at the edge of a tile are at most 0.0024"
    assert (apart < 1e-6).float().mean() > 0.8


@pytest.mark.parametrize("options", [InferenceOptions(tile=32, overlap=8), InferenceOptions(tile=32, tta=True)])
def test_an_image_and_a_batch_get_the_same_scores(options):
    """`predict` reads strips of a picture, `evaluate` has a tensor."""
    image, transform, model = noise(75, 90), EvalTransform(None), Local().eval()
    with torch.inference_mode():
        first = label_map(scores_of_image(model, image, transform, options), (75, 90))
        second = label_map(scores_of(model, transform.image(image)[None], (75, 90), options), (75, 90))
    assert (first == second).all()
    assert len(np.unique(first)) == 3


def test_few_rows_are_in_memory_however_high_the_image():
    """Of the image, only the strip in use and the next one; of the scores, only the rows that tiles share."""
    reads, most = [], 0

    def rows(top, bottom):
        nonlocal most
        reads.append((top, bottom))
        most = max(most, bottom - top)
        return Image.new("RGB", (40, bottom - top), (top % 256, 0, 0))

    image = LargeImage((40, 20_000), rows)
    largest = 0

    with torch.inference_mode():
        patches = scores_of_image(nn.Identity(), image, EvalTransform(None), InferenceOptions(tile=64, overlap=16))
        for patch in patches:
            largest = max(largest, patch.scores.shape[2])
            # One strip is in use, one is ready and one may be being read.
            assert len(reads) <= patch.top // 40 + 4
    assert most == 64
    assert largest <= 64
    assert reads == [(span.start, span.stop) for span in spans(20_000, 64, 16)]


@pytest.mark.parametrize("size", [(40, 60), (25, 31), (7, 200), (1, 1)])
def test_enlarging_in_bands_is_enlarging(monkeypatch, size):
    scores = torch.randn(1, 4, 13, 22, generator=torch.Generator().manual_seed(1))
    (whole,) = enlarged(scores, size)
    monkeypatch.setattr("boxconv.inference.score_patches.MOST", 4 * size[1] * 3)
    bands = list(enlarged(scores, size))
    assert [band.top for band in bands] == list(range(0, size[0], 3))
    torch.testing.assert_close(torch.cat([band.scores for band in bands], 2), whole.scores)


@torch.no_grad()
def test_views_are_averaged_and_mirrored_back(monkeypatch):
    images = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    model = Local()
    six = averaged(model, images)
    torch.testing.assert_close(six.sum(1), torch.ones(2, 48, 64))
    torch.testing.assert_close(six.flip(-1), averaged(model, images.flip(-1)), atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(averaging, "SCALES", (1.0,))
    both = averaged(model, images)
    mirrored = model(images.flip(-1)).softmax(1).flip(-1)
    torch.testing.assert_close(both, (model(images).softmax(1) + mirrored) / 2)
    assert not torch.allclose(six, both, atol=1e-3)


def test_views_are_of_three_sizes_and_no_size_is_padded():
    seen = []

    class Watched(nn.Module):
        def forward(self, images):
            seen.append(tuple(images.shape[2:]))
            return images

    averaged(Watched(), torch.zeros(1, 3, 50, 64))
    assert seen == [(40, 48), (40, 48), (50, 64), (50, 64), (64, 80), (64, 80)]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tile": 100}, "--tile: expected a multiple of 8, at least 16, got 100"),
        ({"tile": 8}, "--tile: expected a multiple of 8, at least 16, got 8"),
        ({"tile": 0}, "--tile: expected a multiple of 8, at least 16, got 0"),
        ({"tile": -64}, "--tile: expected a multiple of 8, at least 16, got -64"),
        ({"tile": 64, "overlap": 64}, "--overlap: expected 0 to 63, less than --tile, got 64"),
        ({"tile": 64, "overlap": 500}, "--overlap: expected 0 to 63, less than --tile, got 500"),
        ({"tile": 64, "overlap": -1}, "--overlap: expected 0 to 63, less than --tile, got -1"),
        ({"overlap": 16}, "--overlap: got 16 without --tile"),
        ({"size": (0, 64)}, "--size: expected height and width of at least 16 pixels, got 0 64"),
        ({"size": (-64, 64)}, "--size: expected height and width of at least 16 pixels, got -64 64"),
        ({"size": (64,)}, "--size: expected height and width of at least 16 pixels, got 64"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(UsageError) as caught:
        InferenceOptions(**options).check()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tile": 64}, "--tile: the network's file takes images of 48 x 64 pixels only, got 64 x 64"),
        ({"size": (96, 128)}, "--size: the network's file takes images of 48 x 64 pixels only, got 96 x 128"),
        ({"tta": True}, "--tta: the network's file takes images of 48 x 64 pixels only, got views of several sizes"),
    ],
)
def test_a_network_for_one_size_says_so(options, message):
    with pytest.raises(UsageError) as caught:
        InferenceOptions(**options).check((48, 64))
    assert message in str(caught.value)
    InferenceOptions(size=(48, 64)).check((48, 64))
    InferenceOptions(tile=48).check((48, 48))


def test_files_for_one_size_are_known_as_such(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from box_convolution.deploy import to_onnx
    from box_convolution.deploy.onnx_files import open_onnx

    network = networks.create("enet_minus", 3, (48, 64)).eval()
    example, path = torch.zeros(1, 3, 48, 64), tmp_path / "net.onnx"
    about = {"classes": CAMVID.to_dict()}
    to_onnx(network, path, example, fixed_size=(48, 64), metadata=about)
    assert open_onnx(path)[0].fixed_size == (48, 64)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = networks.create("boxenet", len(CAMVID), (48, 64)).eval()
    return TrainedNetwork(model, CAMVID, EvalTransform((48, 64)), {}, {})


def test_an_open_network_takes_the_same_options(network):
    image = noise(90, 130)
    labels = {
        "whole": network.predict(image),
        "size": network.predict(image, size=(96, 128)),
        "tile": network.predict(image, tile=64, overlap=16),
        "tile at a size": network.predict(image, size=(64, 96), tile=64),
        "tta": network.predict(image, tta=True),
        "both": network.predict(image, tile=64, tta=True),
    }
    assert {found.shape for found in labels.values()} == {(90, 130)}
    assert {found.dtype for found in labels.values()} == {np.dtype(np.uint8)}
    assert len({found.tobytes() for found in labels.values()}) == len(labels), "each option does something"
    assert (network.predict(image, tile=64) == labels["tile"]).all(), "a quarter by default"
    assert (network.predict(image, size=(48, 64)) == labels["whole"]).all()


def test_an_open_network_takes_paths_and_arrays(network, tmp_path):
    image = noise(40, 60)
    image.save(tmp_path / "photo.png")
    wanted = network.predict(image)
    for given in (np.asarray(image), tmp_path / "photo.png", str(tmp_path / "photo.png")):
        assert (network.predict(given) == wanted).all()
        assert (network.predict_probabilities(given).labels == wanted).all()


def test_a_pillow_image_is_converted_like_its_file(network, tmp_path):
    deep = np.asarray(noise(40, 60).convert("L")).astype(np.uint16) * 16
    for name, image in {"deep.png": Image.fromarray(deep), "alpha.png": noise(40, 60).convert("RGBA")}.items():
        image.save(tmp_path / name)
        assert (network.predict(image) == network.predict(tmp_path / name)).all(), name


@pytest.mark.parametrize(
    "image, options, error, message",
    [
        (3, {}, TypeError, r"image must be a path, a Pillow image or a uint8 array \(height, width, 3\), got int"),
        (np.zeros((40, 60)), {}, TypeError, r"image must .* got float64 \(40, 60\)"),
        (np.zeros((0, 60, 3), np.uint8), {}, TypeError, r"image must .* got uint8 \(0, 60, 3\)"),
        (Image.new("RGB", (0, 5)), {}, TypeError, "image must .* got a Pillow image of 0 x 5 pixels"),
        (torch.zeros(1, 3, 40, 60), {}, TypeError, "image must .* got Tensor"),
        (from_pillow(noise(40, 60), 1), {}, ValueError, "image must have 3 channels, got 1"),
        ("none.png", {}, DataError, "none.png: cannot be read: No such file"),
        (noise(40, 60), {"tile": 12}, UsageError, "^tile: expected a multiple of 8, at least 16, got 12"),
        (noise(40, 60), {"tile": 64, "overlap": 64}, UsageError, "^overlap: expected 0 to 63, less than tile, got 64"),
        (noise(40, 60), {"size": 64}, ValueError, r"size must be \(height, width\), two positive ints, got 64"),
        (noise(40, 60), {"tta": 3}, TypeError, "tta must be a bool, got int 3"),
    ],
)
def test_errors_of_an_open_network_name_the_argument(image, options, error, message, network):
    with pytest.raises(error, match=message):
        network.predict(image, **options)


def test_one_tile_is_the_whole_image(network):
    image = noise(48, 64)
    assert (network.predict(image, tile=64) == network.predict(image)).all()


def test_tiles_of_images_that_are_no_pillow_images(network):
    torch.manual_seed(0)
    model = networks.create("boxenet", 2, (48, 64), in_channels=1).eval()
    grey = TrainedNetwork(model, CAMVID, EvalTransform((48, 64), (0.5,), (0.2,)), {}, {})
    bands = from_pillow(noise(90, 130), 1)
    assert grey.predict(bands, tile=64).shape == (90, 130)
    values = np.asarray(noise(90, 130).convert("L"))
    assert (grey.predict(values) == grey.predict(bands)).all()
