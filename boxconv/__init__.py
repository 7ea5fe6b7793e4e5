"""The application around the networks of `box_convolution`, from data to reports, and its command line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .inference.open import TrainedNetwork


def open_network(path_or_name: "str | Path") -> "TrainedNetwork":
    """Open a trained network, ready for images: `boxconv.inference.open.open_network`.

    Examples:
        >>> from PIL import Image
        >>> import boxconv
        >>> network = boxconv.open_network("boxenet-camvid")         # or a run's folder, a checkpoint, an exported file
        >>> image = Image.new("RGB", (480, 360), "skyblue")          # or Image.open("photo.jpg")
        >>> labels = network.predict(image)                          # class indices, (360, 480), uint8
        >>> network.classes.names[labels[100, 240]]
        'sky'
    """
    from .inference.open import open_network

    return open_network(path_or_name)
