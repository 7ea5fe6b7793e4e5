"""Box convolutions as an operator of onnxruntime. Needs the library, or the header to build it with."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from cases import CallsOperator
from library_build import build_library
from torch import nn

from box_convolution import BoxBottleneck, BoxConv2d, ops
from box_convolution.deploy import custom_operators, onnx_files, to_onnx
from box_convolution.deploy.exported import ExportError
from box_convolution.extras import MissingPackageError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

IMAGE = torch.rand(1, 3, 24, 32)


def layers() -> nn.Module:
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.PReLU(8, init=-0.5),
        BoxBottleneck(8, max_input_h=24, max_input_w=32),
        BoxConv2d(8, 2, 24, 32, stride=2, normalize=False),
        nn.BatchNorm2d(16),
    )
    made(torch.randn(4, 3, 24, 32))
    return made


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library and the kernels that it was built with."""
    found = custom_operators.library()
    if found is not None:
        return found.parent
    header = os.environ.get("ONNXRUNTIME_INCLUDE")
    if not header or not shutil.which("cmake"):
        pytest.skip("needs CMake, and onnxruntime_c_api.h in the folder that ONNXRUNTIME_INCLUDE names")
    place = tmp_path_factory.mktemp("operator")
    settings = {"CMAKE_BUILD_TYPE": "None", "BOX_OPTIMIZATION": "-O0", "ONNXRUNTIME_INCLUDE": header}
    return build_library(place / "build", place / "prefix", settings)


@pytest.fixture
def library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ops, "__path__", [str(folder), *ops.__path__])
    path = custom_operators.library()
    assert path is not None
    return path


@pytest.mark.parametrize("make, boxes", [(layers, 2), (lambda: CallsOperator(stride=2), 1)])
@pytest.mark.parametrize("dynamic", [True, False])
def test_the_same_numbers(make, boxes: int, dynamic: bool, library: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = make(), tmp_path / "net.onnx"
    assert to_onnx(network, path, IMAGE, dynamic=dynamic, custom_operators=True) < 1e-5
    model = onnx.load(path)
    ours = [node.op_type for node in model.graph.node if node.domain == custom_operators.DOMAIN]
    assert ours == ["BoxConv2d"] * boxes
    assert {node.domain for node in model.graph.node} <= {"", custom_operators.DOMAIN}
    image = torch.randn(2, 3, 19, 45) if dynamic else torch.randn(IMAGE.shape)
    expected = network.eval()(image).detach()
    for threads in (1, 3):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(str(library))
        session = onnxruntime.InferenceSession(str(path), options)
        (answer,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        torch.testing.assert_close(torch.from_numpy(answer), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def model_with(**shapes: tuple[int, ...]) -> bytes:
    """A model with the operator alone, for inputs of these shapes; the shape () means that an input is missing."""
    info = onnx.helper.make_tensor_value_info
    given = [info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items() if shape]
    names = [name if shape else "" for name, shape in shapes.items()]
    node = onnx.helper.make_node(
        "BoxConv2d", names, ["output"], domain=custom_operators.DOMAIN, normalize=1, relu=0, stride=1
    )
    graph = onnx.helper.make_graph([node], "one", given, [info("output", onnx.TensorProto.FLOAT, None)])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(custom_operators.DOMAIN, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


@pytest.mark.parametrize(
    "shapes, message",
    [
        ({"input": (3, 5, 6), "boxes": (3, 2, 4)}, "input must have four dimensions"),
        ({"input": (1, 2, 5, 6), "boxes": (3, 2, 4)}, r"boxes must be \(C, M, 4\)"),
        ({"input": (1, 3, 5, 6), "boxes": (3, 2, 3)}, r"boxes must be \(C, M, 4\)"),
        ({"input": (1, 3, 5, 6), "boxes": (3, 2, 4), "scale": (3,)}, "scale and shift must be"),
        ({"input": (1, 3, 5, 6), "boxes": (3, 2, 4), "scale": (), "shift": (6, 1)}, "scale and shift must be"),
        (
            {"input": (1, 3, 5, 6), "boxes": (3, 2, 4), "scale": (), "shift": (), "residual": (1, 6, 6, 5)},
            "residual must have the output's shape",
        ),
    ],
)
def test_bad_inputs(shapes: dict[str, tuple[int, ...]], message: str, library: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(model_with(**shapes), options)
    with pytest.raises(Exception, match=f"BoxConv2d: {message}"):
        session.run(None, {name: torch.ones(shape).numpy() for name, shape in shapes.items() if shape})


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_operators, "library", lambda: None)
    with pytest.raises(MissingPackageError, match=r"custom_operators .* needs .*cmake\.define\.ONNXRUNTIME_INCLUDE"):
        to_onnx(layers(), tmp_path / "net.onnx", IMAGE, custom_operators=True)
    assert not list(tmp_path.iterdir())
    (tmp_path / "net.onnx").write_bytes(model_with(input=(1, 3, 5, 6), boxes=(3, 2, 4)))
    with pytest.raises(ExportError, match=r"net\.onnx: its box convolutions need .*cmake\.define\.ONNXRUNTIME_INCLUDE"):
        onnx_files.open_onnx(tmp_path / "net.onnx")
