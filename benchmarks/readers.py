"""Programs that read exported networks: whether their results are right, and their time beside our deployed form.

    python benchmarks/readers.py                    # BoxENet, 19 classes, 512 x 1024: the table of docs/deployment.md
    python benchmarks/readers.py --snap --size 96 192

All take turns in one process, with one thread; times are processor time. Readers that are not installed are listed
without a time (pip install opencv-python-headless openvino).
"""

import argparse
import tempfile
from collections.abc import Callable
from datetime import date
from importlib import metadata, util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from box_convolution import networks
from box_convolution.deploy import custom_operators, deploy, keep_freed_memory, snap_boxes, to_onnx
from box_convolution.deploy.pt2_files import save_program
from boxconv.profiling.machine import processor
from boxconv.profiling.timing import Repeats, interleaved

Call = Callable[[], Tensor]


def onnxruntime(path: Path, image: Tensor) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if library := custom_operators.library():
        options.register_custom_ops_library(str(library))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    array = image.numpy()
    return lambda: torch.from_numpy(session.run(None, {"image": array})[0])


def opencv(path: Path, image: Tensor) -> Call:
    import cv2

    cv2.setNumThreads(1)
    net, array = cv2.dnn.readNetFromONNX(str(path)), image.numpy()

    def call() -> Tensor:
        net.setInput(array)
        return torch.from_numpy(net.forward())

    return call


def openvino(path: Path, image: Tensor) -> Call:
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model, array = ov.compile_model(str(path), "CPU", settings), image.numpy()
    return lambda: torch.from_numpy(model(array)[0])


def program(path: Path, image: Tensor) -> Call:
    network = torch.export.load(str(path)).module()
    return lambda: network(image)


def ahead_of_time(path: Path, image: Tensor) -> Call:
    package = path.with_suffix(".aoti.pt2")
    torch._inductor.aoti_compile_and_package(torch.export.load(str(path)), package_path=str(package))
    network: Any = torch._inductor.aoti_load_package(str(package))
    return lambda: network(image)


def write(network: nn.Module, image: Tensor, path: Path, options: dict[str, bool]) -> None:
    if path.suffix == ".onnx":
        to_onnx(network, path, image, **options)
    else:
        deployed: Any = deploy(network)
        save_program(deployed, path, {}, **options)


OUR_OPERATOR = "ONNX, our operator"
FILES: dict[str, tuple[str, dict[str, bool]]] = {
    "ONNX, any size": ("free.onnx", {}),
    "ONNX, one size": ("fixed.onnx", {"dynamic": False}),
    OUR_OPERATOR: ("custom.onnx", {"custom_operators": True}),
    ".pt2": ("package.pt2", {}),
    ".pt2, standard operators": ("standard.pt2", {"standard_operators": True}),
}
"""For each form, the name of the file, and options of the function that writes it."""
READERS: list[tuple[str, str, Callable[[Path, Tensor], Call], str]] = [
    ("onnxruntime", "onnxruntime", onnxruntime, "ONNX"),
    ("OpenCV DNN", "opencv-python-headless", opencv, "ONNX"),
    ("OpenVINO", "openvino", openvino, "ONNX"),
    ("torch.export.load", "torch", program, ".pt2"),
    ("AOTInductor", "torch", ahead_of_time, ".pt2, standard operators"),
]
MODULES = {"opencv-python-headless": "cv2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=networks.names(), default="boxenet")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"))
    parser.add_argument("--snap", action="store_true", help="boxes on whole pixel borders")
    names = [reader for reader, *_ in READERS]
    parser.add_argument("--readers", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--files", nargs="+", choices=list(FILES), default=list(FILES), metavar="FILE", help=", ".join(FILES)
    )
    parser.add_argument("--seconds", type=float, default=10, help="at most, for each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    network = networks.create(args.network, 19, tuple(args.size)).eval()
    if args.snap:
        snap_boxes(network)
    image = torch.randn(1, 3, *args.size)
    name = f"{args.network}{' with snapped boxes' if args.snap else ''}"
    deployed = deploy(network)

    rows: dict[str, tuple[str, str, str]] = {}
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        folder, expected = Path(place), deployed(image)
        calls: dict[str, Call] = {"ours": lambda: deployed(image)}
        for reader, package, start, kind in READERS:
            for form, (file, options) in FILES.items():
                if not form.startswith(kind) or reader not in args.readers or form not in args.files:
                    continue
                if form == OUR_OPERATOR and reader != "onnxruntime":
                    continue
                key = f"{reader} | {form}"
                if util.find_spec(MODULES.get(package, package)) is None:
                    rows[key] = ("not installed", "", "")
                    continue
                version = metadata.version(package)
                try:
                    if not (folder / file).exists():
                        write(network, image, folder / file, options)
                    call = start(folder / file, image)
                    apart = ((call() - expected).abs().max() / (expected.max() - expected.min())).item()
                except Exception as error:  # each reader raises its own types
                    rows[key] = (version, "no: " + str(error).strip().splitlines()[-1][:80], "")
                    continue
                rows[key], calls[key] = (version, "yes" if apart < 1e-4 else "wrong", f"{apart:.0e}"), call
        times = interleaved(calls, Repeats(31, args.seconds))
    ours = times["ours"].median
    size = f"{args.size[0]} x {args.size[1]}"
    print(f"{date.today()}: {name} at {size}, ours {ours:.1f} ms, torch {torch.__version__}, {processor()}, one thread")
    print("\n| reader | file | version | works | difference | time |\n|---|---|---|---|---|---|")
    for key, (version, works, apart) in rows.items():
        time = f"{times[key].median / ours:.2f}" if key in times else ""
        print(f"| {key} | {version} | {works} | {apart} | {time} |")


if __name__ == "__main__":
    main()
