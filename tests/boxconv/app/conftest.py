"""A small network with classes, and a photograph for it."""

import io

import pytest
from data_trees import THREE, noise
from PIL import Image

from box_convolution import networks
from boxconv.app.explorer import Explorer
from boxconv.data.transforms import EvalTransform
from boxconv.inference.open import TrainedNetwork

SIZE = (24, 40)


@pytest.fixture(scope="session")
def explorer() -> Explorer:
    model = networks.create("boxenet", len(THREE), input_size=SIZE).eval()
    return Explorer("mine", TrainedNetwork(model, THREE, EvalTransform(SIZE), {}, {"name": "boxenet"}))


@pytest.fixture(scope="session")
def photo() -> bytes:
    """52 x 36 pixels, PNG."""
    file = io.BytesIO()
    Image.fromarray(noise("photo", (36, 52))).save(file, "PNG")
    return file.getvalue()
