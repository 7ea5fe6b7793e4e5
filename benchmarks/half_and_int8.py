"""A trained network in fewer bits, on the CPU: its scores, and its time and weights beside float32.

    python benchmarks/half_and_int8.py --root CAMVID                       # the table of docs/deployment.md
    python benchmarks/half_and_int8.py --root CAMVID --network runs/my-run

bfloat16 and float16 are the deployed network in PyTorch. int8 is its ONNX file after static quantisation by
onnxruntime: of the convolutions alone, calibrated with training images of CamVid. Boxes stay in float32 there. Scores
are those of the validation images. A second table has the time of all nine networks in bfloat16, with random weights.
All take turns in one process, with one thread; times are processor time.
"""

import argparse
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from box_convolution import networks
from box_convolution.deploy import deploy, keep_freed_memory, to_onnx
from box_convolution.deploy.onnx_files import open_onnx
from boxconv import open_network
from boxconv.data.registry import open_split, prepare_of
from boxconv.inference.scoring_data import classes_of_labels, data_of, validation_scores
from boxconv.profiling.machine import processor
from boxconv.profiling.timing import Repeats, interleaved

REFERENCE = "float32, PyTorch"


class Form(NamedTuple):
    """A network of float32 images and logits, and the bytes of its weights."""

    network: nn.Module
    size: int


class TrainingImages(CalibrationDataReader):
    """``count`` images of the training split ``data``, evenly chosen, one at a time."""

    def __init__(self, data: Any, count: int) -> None:
        chosen = np.linspace(0, len(data) - 1, min(count, len(data)), dtype=int)
        self.images: Iterator[Any] = (data[int(index)][0] for index in chosen)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self.images, None)
        return None if image is None else {"image": np.asarray(image, dtype=np.float32)[None]}


class Half(nn.Module):
    """A deployed network in another dtype, between images and logits of float32."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = deploy(network).to(dtype), dtype

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image.to(self.dtype))
        return logits.float()


def in_pytorch(network: nn.Module) -> Form:
    return Form(network, sum(value.nbytes for value in (*network.parameters(), *network.buffers())))


def in_onnxruntime(path: Path) -> Form:
    return Form(open_onnx(path)[0].eval(), path.stat().st_size)


def times_in_bfloat16(size: tuple[int, int], seconds: float) -> None:
    """Print the time of each deployed network in bfloat16, divided by that in float32."""
    image = torch.randn(1, 3, *size)
    print(f"\n| network | float32, ms | bfloat16, {size[0]} x {size[1]} |\n|---|---|---|")
    for name in networks.names():
        torch.manual_seed(0)
        network = networks.create(name, 19, size).eval()
        forms = {"float32": deploy(network), "bfloat16": Half(network, torch.bfloat16)}
        taken = interleaved({key: lambda f=form: f(image) for key, form in forms.items()}, Repeats(31, seconds))
        single, half = taken["float32"].median, taken["bfloat16"].median
        print(f"| {name} | {single:.0f} | {half / single:.2f} |", flush=True)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of CamVid")
    parser.add_argument("--network", type=Path, default=Path("boxenet-camvid"))
    parser.add_argument("--images", type=int, default=50, help="of the training split, to calibrate with")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"), help="to time, too")
    parser.add_argument("--seconds", type=float, default=10, help="at most, to time each at each size")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    trained = open_network(args.network)
    config = data_of(trained, args.network, data="camvid", root=args.root)
    classes = classes_of_labels(trained, config)
    training: Any = open_split(config, config.train_split, classes, prepare_of(config))
    image = torch.as_tensor(training[0][0])[None]
    images = [image, torch.randn(1, image.shape[1], *args.size)]

    with tempfile.TemporaryDirectory() as name:
        float32, int8 = Path(name, "float32.onnx"), Path(name, "int8.onnx")
        to_onnx(trained.model, float32, image, metadata={"network": str(args.network)})
        quantize_static(
            float32,
            int8,
            TrainingImages(training, args.images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "ConvTranspose"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        forms = {
            REFERENCE: in_pytorch(deploy(trained.model)),
            "bfloat16, PyTorch": in_pytorch(Half(trained.model, torch.bfloat16)),
            "float16, PyTorch": in_pytorch(Half(trained.model, torch.float16)),
            "float32, ONNX": in_onnxruntime(float32),
            "int8, ONNX": in_onnxruntime(int8),
        }
        scores = {name: validation_scores(form.network, classes, config) for name, form in forms.items()}
        times = [
            interleaved({name: lambda f=form, i=image: f.network(i) for name, form in forms.items()},
                        Repeats(31, args.seconds))
            for image in images
        ]  # fmt: skip
    sizes = [" x ".join(map(str, image.shape[2:])) for image in images]
    milliseconds = " and ".join(f"{taken[REFERENCE].median:.1f}" for taken in times)
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    print(f"{date.today()}: {args.network}, {args.images} images to calibrate, {processor()}, one thread, ", end="")
    print(f"{versions}; float32 in PyTorch: {milliseconds} ms\n")
    print("| form | class IoU, % | pixel accuracy, % | weights, MB |", *(f"time at {size} |" for size in sizes))
    print("|---|---|---|---|---|---|")
    for name, form in forms.items():
        iou, pixels = (100 * scores[name][key] for key in ("class_iou", "pixel_accuracy"))
        shares = " | ".join(f"{taken[name].median / taken[REFERENCE].median:.2f}" for taken in times)
        print(f"| {name} | {iou:.1f} | {pixels:.1f} | {form.size / 1e6:.2f} | {shares} |")
    times_in_bfloat16(tuple(args.size), args.seconds)


if __name__ == "__main__":
    main()
