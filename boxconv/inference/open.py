"""Open a trained network from a file, or by the name of one in the package, ready for images."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..training.config import to_plain
from .options import InferenceOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..data.bands import Picture
    from ..data.class_table import ClassTable
    from ..data.image_reader import ImageReader
    from ..data.large_images import LargeImage
    from ..data.transforms import EvalTransform
    from ..training.config import TrainConfig
    from .predict import Labels, Prediction

    AnyImage = str | Path | Picture | LargeImage | npt.NDArray[np.uint8]

DEPLOYED = (".onnx", ".pt2")
EXPORTED = (*DEPLOYED, ".safetensors")
KEPT = ("data", "border", "white", "train_split", "val_split", "scenes_for_validation", "size", "mean", "std")
"""Settings of the training that every file of a network has: they say what it was trained on, and what it sees."""
DEFAULT = "boxenet-camvid"
"""Default network of `boxconv predict`."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, with everything needed to prepare its images and to interpret its output.

    Attributes:
        model: from images (B, C, h, w) to logits (B, K, h, w); in evaluation mode, on the CPU.
        classes: names, colours and categories of the K classes.
        transform: from an image to the input of ``model``.
        about: other information in the file, as plain values: scores, licence, training data ...
        network: the arguments of `networks.create` that made it; empty for a deployed network.
        config: settings of its training if the file is a checkpoint, else None.
    """

    model: Any
    classes: "ClassTable"
    transform: "EvalTransform"
    about: dict[str, Any]
    network: dict[str, Any]
    config: "TrainConfig | None" = None

    @property
    def reader(self) -> "ImageReader":
        """A reader that opens image files as in training."""
        from ..data.image_reader import ImageReader

        return ImageReader(len(self.transform.mean), self.about.get("white"))

    def predict(
        self,
        image: "AnyImage",
        *,
        size: tuple[int, int] | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        tta: bool = False,
    ) -> "Labels":
        """Predict the class of every pixel: class indices (height, width), uint8, at the size of the image.

        Args:
            image: the path of a file, a Pillow image, an array (height, width, channels) of uint8, or the result of
                `reader`; of any size. A Pillow image is converted like a file, but not turned by its EXIF orientation.
            size: (height, width) to which the image is resized for the network. The default is the size of the training
                images, or with ``tile`` the image's own size.
            tile: cut the image into overlapping squares with sides of this many pixels, a multiple of 8, and blend
                their scores. The network then sees no farther than a tile.
            overlap: pixels that neighbouring tiles share; by default a quarter of ``tile``.
            tta: average the probabilities of six views: three scales, each also mirrored.

        Raises UsageError for options out of range, TypeError naming an argument of another type, DataError for a file
        that cannot be read.
        """
        return self._applied(image, size, tile, overlap, tta).labels

    def predict_probabilities(
        self,
        image: "AnyImage",
        *,
        size: tuple[int, int] | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        tta: bool = False,
    ) -> "Prediction":
        """Like `predict`, but also return the probabilities of all classes: (K, height, width), float16."""
        return self._applied(image, size, tile, overlap, tta, probabilities=True)

    def _applied(
        self, image: "AnyImage", size: Any, tile: Any, overlap: Any, tta: Any, *, probabilities: bool = False
    ) -> "Prediction":
        """`apply` for callers in Python: errors name its arguments, not the command line's options."""
        from box_convolution.argument_checks import as_bool, as_int, as_size

        given = InferenceOptions(
            size=None if size is None else as_size("size", size),
            tile=None if tile is None else as_int("tile", tile),
            overlap=None if overlap is None else as_int("overlap", overlap),
            tta=as_bool("tta", tta),
        )
        try:
            self.check(given)
        except UsageError as error:
            raise UsageError(str(error).replace("--", "")) from None
        return self.apply(self._opened(image), given, probabilities=probabilities)

    def _opened(self, image: "AnyImage") -> "Picture | LargeImage":
        import numpy as np
        from PIL import Image

        from ..data.bands import Bands
        from ..data.large_images import LargeImage, open_any_size

        if isinstance(image, (str, Path)):
            return open_any_size(Path(image), self.reader)
        count = len(self.transform.mean)
        if isinstance(image, LargeImage):
            return image
        if isinstance(image, Image.Image) and 0 not in image.size:
            return self.reader.picture("image", image.copy())  # converted like a file; the caller's stays as it is
        if isinstance(image, Bands):
            if len(image.bands) != count:
                raise ValueError(f"image must have {count} channels, got {len(image.bands)}")
            return image
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size > 0:
            if image.ndim == 2 and count == 1:
                image = image[..., None]
            if image.ndim == 3 and image.shape[2] == count:
                return Image.fromarray(image) if count == 3 else Bands.of(image.transpose(2, 0, 1))
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        if isinstance(image, Image.Image):
            found = f"a Pillow image of {image.width} x {image.height} pixels"
        raise TypeError(f"image must be a path, a Pillow image or a uint8 array (height, width, {count}), got {found}")

    def apply(
        self,
        image: "Picture | LargeImage",
        options: InferenceOptions,
        *,
        probabilities: bool = False,
        progress: bool = False,
    ) -> "Prediction":
        """Like `predict`, or with ``probabilities`` like `predict_probabilities`, with the command line's options.

        ``progress`` shows a bar while tiles are processed.
        """
        from PIL.Image import Image

        from ..data.bands import from_pillow
        from .predict import predict_image

        self.check(options)
        if isinstance(image, Image):
            image = from_pillow(image, len(self.transform.mean))
        return predict_image(self.model, image, self.transform, options, probabilities=probabilities, progress=progress)

    def check(self, options: InferenceOptions) -> None:
        """Raise UsageError for options that are out of range, or that the network does not support."""
        options.check(getattr(self.model, "fixed_size", None))


def open_network(path_or_name: str | Path) -> TrainedNetwork:
    """Open a trained network.

    Args:
        path_or_name: the folder of a run (its best.pt is opened); a checkpoint; a file from `boxconv export` (.onnx,
            .pt2 or .safetensors); or the name of a network in the package, such as "boxenet-camvid".

    Raises CheckpointError, ExportError or WeightsError for a file that holds no network, TypeError for what is no path.
    """
    from ..data.class_table import ClassTable
    from ..data.transforms import EvalTransform
    from ..training import checkpoint
    from ..training.checkpoint import CheckpointError

    if not isinstance(path_or_name, (str, os.PathLike)):
        raise TypeError(f"path_or_name must be a path or a name, got {type(path_or_name).__name__} {path_or_name!r}")
    path, network, config = file_of(Path(path_or_name)), {}, None
    if not path.exists() and not path.suffix:
        raise CheckpointError(path, f"no such file, nor one of the package's networks, {', '.join(packaged())}")
    if path.suffix not in EXPORTED:
        content = checkpoint.load(path)
        config = checkpoint.settings(content, path)
        model, values = _network_of(content, path), _about(content, config)
        network = content["network"]
    elif not path.is_file():
        raise CheckpointError(path, "no such file")
    elif path.suffix == ".safetensors":
        from box_convolution.networks import weights

        model, values = weights.load(path)
        network = values.pop("network")
    else:
        from box_convolution.deploy import onnx_files, pt2_files

        model, values = onnx_files.open_onnx(path) if path.suffix == ".onnx" else pt2_files.open_program(path)
    try:
        transform = EvalTransform(tuple(values["size"]), tuple(values["mean"]), tuple(values["std"]))
        return TrainedNetwork(model.eval(), ClassTable.from_dict(values["classes"]), transform, values, network, config)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            path, f"does not say how images are prepared, or what its classes are: {error}"
        ) from error


def open_layers(name: Path) -> TrainedNetwork:
    """Like `open_network`, but only for a network with the layers of training: raises what `require_layers` raises."""
    require_layers(name)
    return open_network(name)


def require_layers(*names: Path) -> None:
    """Raise UsageError for the file of a deployed network, whose layers are not those of training; opens nothing."""
    for name in names:
        if name.suffix in DEPLOYED:
            raise UsageError(
                f"{name}: a deployed network ({name.suffix}), without the layers of the trained one; give the "
                "checkpoint, run or .safetensors file that it was exported from, or a packaged network, such as "
                f"{DEFAULT}"
            )


def is_network(name: Path) -> bool:
    """Whether an argument of the command line is a network, not an image: by its suffix, content or name."""
    return name.suffix in (".pt", *EXPORTED) or file_of(name) != name or (name.is_file() and _starts_as_archive(name))


def file_of(name: Path) -> Path:
    """The file of a network from its path, its run's folder, or the name of a network in the package."""
    if (name / "best.pt").is_file() or (name / "last.pt").is_file():  # a run; without best.pt, an error will name it
        return name / "best.pt"
    return name if name.is_file() or (name / "config.json").exists() else packaged().get(str(name), name)


def packaged() -> dict[str, Path]:
    """The files of the networks in the package, by their names on the command line."""
    from box_convolution.networks import pretrained

    return {f"{name}-{data}": pretrained.file_of(name, data) for name, data in pretrained.available()}


def _starts_as_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"  # of a zip file, which every checkpoint is


def _network_of(content: dict[str, Any], path: Path) -> Any:
    """The network of a checkpoint, with its weights."""
    from box_convolution.networks import weights

    from ..training.checkpoint import CheckpointError, load_weights

    try:
        model = weights.create_from(content["network"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(path, f"describes a network that cannot be made: {error}") from error
    load_weights(model, content, path)
    return model


def _about(content: dict[str, Any], config: "TrainConfig") -> dict[str, Any]:
    """Everything in a checkpoint, besides weights, that is needed to use its network: plain values, for export."""
    settings = to_plain(config)
    return {name: settings[name] for name in KEPT} | {"classes": content["classes"], "scores": content["scores"]}
