"""The prediction at one pixel, and the gradient that shows which pixels it depends on."""

import pytest
import torch
from torch import nn

from box_convolution import networks
from boxconv.analysis.pixel_context import pixel_context
from boxconv.analysis.receptive_field import gradient_responses


def test_the_response_of_one_convolution() -> None:
    """The response at each pixel is the norm of the weights with which the most likely class reads it."""
    model = nn.Conv2d(3, 2, 3, padding=1)
    image = torch.rand(3, 7, 9)
    found = pixel_context(model, image, 2, 5)
    logits = model(image[None])[0, :, 2, 5]
    assert found.label == logits.argmax()
    torch.testing.assert_close(found.probabilities, logits.softmax(0))
    expected = torch.zeros(7, 9, dtype=torch.float64)
    expected[1:4, 4:7] = torch.linalg.vector_norm(model.weight[found.label].double(), dim=0)
    torch.testing.assert_close(found.response, expected)
    assert found.radius(1.0) == 1


def test_the_same_as_the_receptive_field_where_there_is_one_logit() -> None:
    model = networks.create("boxenet", 1, input_size=(32, 48))
    image = torch.rand(3, 32, 48)
    responses, *_ = gradient_responses(model, image[None], torch.tensor([[[20, 7]]]))
    torch.testing.assert_close(pixel_context(model, image, 20, 7).response, responses[0, 0])


def test_a_pixel_that_depends_on_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    nn.init.constant_(model[0].bias, -9.0)
    found = pixel_context(model, torch.rand(3, 4, 4), 0, 0)
    assert not found.response.any()
    assert found.radius(0.5) is None


def test_the_network_is_left_as_it_was() -> None:
    model = networks.create("boxenet", 2, input_size=(16, 24)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        pixel_context(model, torch.rand(3, 16, 24), 1, 1)
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("row, column", [(-1, 0), (0, -1), (4, 0), (0, 5)])
def test_a_pixel_outside_the_image(row: int, column: int) -> None:
    with pytest.raises(ValueError, match=r"a pixel of it, got \(3, 4, 5\), row "):
        pixel_context(nn.Conv2d(3, 2, 1), torch.rand(3, 4, 5), row, column)
