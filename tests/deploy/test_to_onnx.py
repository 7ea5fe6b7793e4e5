"""ONNX files of any network with boxes: other readers compute the same, or no file is written."""

from pathlib import Path

import pytest
import torch
from cases import CallsOperator
from foreign_networks import DeepLab
from torch import Tensor, nn

from box_convolution import BoxBottleneck, BoxConv2d, networks
from box_convolution.convert import replace_dilated
from box_convolution.deploy import deploy, exported, standard_operators, to_onnx
from box_convolution.deploy.onnx_files import open_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

IMAGE = torch.rand(1, 3, 24, 32)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.box = BoxConv2d(3, 2, 24, 32)

    def forward(self, photo: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        output = self.box(photo)
        return output, output.mean((2, 3)) @ table


def own() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), BoxConv2d(8, 4, 24, 32), nn.Conv2d(32, 5, 1)
    )


def block() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 1), BoxBottleneck(8, max_input_h=24, max_input_w=32, dropout=0.1))


def converted() -> nn.Module:
    return replace_dilated(DeepLab(), (24, 32))[0]


MADE = {
    "own network": own,
    "block": block,
    "deployed": lambda: deploy(block(), snap=True),
    "stride and sums": lambda: nn.Sequential(BoxConv2d(3, 2, 24, 32, stride=2, normalize=False)),
    "converted": converted,
    "functional": CallsOperator,
    "without boxes": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4)),
}


def made(name: str) -> nn.Module:
    if name == "converted" and torch.__version__ < (2, 9):
        pytest.skip("PyTorch 2.6 cannot write its interpolate() to a size that is free")
    torch.manual_seed(0)
    return MADE[name]()


def run(path: Path, *inputs: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), inputs, strict=True)}
    return [torch.from_numpy(array) for array in session.run(None, feed)]


def assert_answers(path: Path, network: nn.Module, *inputs: Tensor) -> None:
    with torch.no_grad():
        expected = network.eval()(*inputs)
    expected = expected["out"] if isinstance(expected, dict) else expected
    (actual,) = run(path, *inputs)
    scale = (expected.max() - expected.min()).item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", MADE)
def test_any_network_at_any_size(name: str, tmp_path: Path) -> None:
    network, path = made(name), tmp_path / "net.onnx"
    assert to_onnx(network, path, IMAGE) < 1e-5
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    (image,) = model.graph.input
    assert [dim.dim_param for dim in image.type.tensor_type.shape.dim] == ["batch", "", "height", "width"]
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert_answers(path, network, torch.randn(3, 3, 40, 17 if name != "converted" else 48))


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_one_size_has_constants(name: str, tmp_path: Path) -> None:
    network, path = made(name), tmp_path / "net.onnx"
    assert to_onnx(network, path, IMAGE, fixed_size=(32, 48)) < 1e-5
    model = onnx.load(path)
    assert {node.domain for node in model.graph.node} == {""}
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 32, 48]
    if name != "functional":
        assert not {"Range", "Clip", "Shape", "Cast"} & {node.op_type for node in model.graph.node}
    assert_answers(path, network, torch.randn(1, 3, 32, 48))
    to_onnx(network, path, IMAGE, dynamic=False)  # the example's size; the file is replaced
    assert_answers(path, network, torch.randn(IMAGE.shape))


def test_the_network_is_not_changed(tmp_path: Path) -> None:
    network = own().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    to_onnx(network, tmp_path / "net.onnx", IMAGE, dynamic=False)
    assert network.training
    assert isinstance(network[3], BoxConv2d)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    network, path = TwoInputs(), tmp_path / "net.onnx"
    assert to_onnx(network, path, (IMAGE, torch.rand(6, 2))) < 1e-5
    inputs = torch.randn(2, 3, 9, 40), torch.randn(6, 2)
    assert [value.name for value in onnxruntime.InferenceSession(str(path)).get_inputs()] == ["photo", "table"]
    for actual, expected in zip(run(path, *inputs), network(*inputs), strict=True):
        torch.testing.assert_close(actual, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 48), (37, 41)])
def test_a_network_of_the_paper_at_one_size(size: tuple[int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = networks.create("boxenet", 5, (40, 64)).eval(), tmp_path / "net.onnx"
    assert to_onnx(network, path, torch.rand(1, 3, 40, 64), fixed_size=size, metadata={"size": size}) < 1e-5
    assert [value.name for value in onnxruntime.InferenceSession(str(path)).get_outputs()] == ["logits"]
    opened, image = open_onnx(path)[0], torch.rand(3, *size)
    torch.testing.assert_close(opened(image), network(image).detach(), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"image must have shape \(batch, 3, \d+, \d+\), got \[1, 3, 40, 64\]"):
        opened(torch.rand(1, 3, 40, 64))


@pytest.mark.slow
def test_opencv_computes_the_same(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    torch.manual_seed(0)
    network, path = networks.create("boxenet", 5, (64, 96)).eval(), tmp_path / "net.onnx"
    to_onnx(network, path, torch.rand(1, 3, 64, 96), fixed_size=(64, 96))
    image = torch.randn(1, 3, 64, 96)
    reader = cv2.dnn.readNetFromONNX(str(path))
    reader.setInput(image.numpy())
    (expected,) = run(path, image)
    torch.testing.assert_close(torch.from_numpy(reader.forward()), expected, rtol=0, atol=1e-4 * expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [True, False])
def test_openvino_computes_the_same(fixed: bool, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(0)
    network, path = networks.create("boxenet", 5, (64, 96)).eval(), tmp_path / "net.onnx"
    to_onnx(network, path, torch.rand(1, 3, 64, 96), dynamic=not fixed)
    image = torch.randn(1, 3, 64, 96)
    (actual,) = openvino.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image.numpy()).values()
    (expected,) = run(path, image)
    torch.testing.assert_close(torch.from_numpy(actual), expected, rtol=0, atol=1e-4 * expected.abs().max())


@pytest.mark.slow
def test_onnxruntime_quantises_the_file(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(torch.rand(8, 1, *IMAGE.shape[1:]))

        def get_next(self) -> dict[str, object] | None:
            image = next(self.images, None)
            return None if image is None else {"input": image.numpy()}

    torch.manual_seed(0)
    network, path, small = own().eval(), tmp_path / "net.onnx", tmp_path / "int8.onnx"
    to_onnx(network, path, IMAGE, metadata={"classes": 5})
    quantize_static(path, small, Images(), op_types_to_quantize=["Conv"], per_channel=True)
    assert [node.op_type for node in onnx.load(small).graph.node].count("QuantizeLinear") >= 2
    image = torch.rand(2, 3, 40, 17)
    (actual,), expected = run(small, image), network(image).detach()
    assert not torch.equal(actual, expected)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0.03 * (expected.max() - expected.min()).item())
    assert open_onnx(small)[1] == {"classes": 5}


def test_a_file_that_disagrees_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = standard_operators.overlap
    monkeypatch.setattr(standard_operators, "overlap", lambda low, high, *sizes: right(low, high + 0.1, *sizes))
    old = tmp_path / "old.onnx"
    old.write_bytes(b"as it was")
    for path in (tmp_path / "net.onnx", old):
        with pytest.raises(exported.ExportError, match=f"{path.name}: not written: the file's outputs differ"):
            to_onnx(own(), path, IMAGE)
    assert [file.name for file in tmp_path.iterdir()] == ["old.onnx"]
    assert old.read_bytes() == b"as it was"


class OneSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.box, self.place = BoxConv2d(3, 1, 24, 32), nn.Parameter(torch.randn(3, 24, 32))

    def forward(self, image: Tensor) -> Tensor:
        return self.box(image) + self.place


class NoOperator(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.special.bessel_j0(image)


class Branches(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image if image.sum() > 0 else -image


@pytest.mark.parametrize(
    "network, words",
    [
        (OneSize(), "OneSize cannot be exported: .*dynamic=False"),
        (NoOperator(), "NoOperator cannot be exported: .*bessel_j0"),
        (Branches(), "Branches cannot be exported: "),
    ],
)
def test_what_cannot_be_exported(network: nn.Module, words: str, tmp_path: Path) -> None:
    with pytest.raises(exported.ExportError, match=f"net.onnx: {words}"):
        to_onnx(network, tmp_path / "net.onnx", IMAGE)
    assert not list(tmp_path.iterdir())


def test_a_network_for_one_size(tmp_path: Path) -> None:
    assert to_onnx(OneSize(), tmp_path / "net.onnx", IMAGE, dynamic=False) < 1e-5


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (("net.pb", IMAGE), {}, ValueError, "path must end in .onnx, got net.pb"),
        (("nowhere/net.onnx", IMAGE), {}, FileNotFoundError, "path: there is no folder nowhere"),
        (("net.onnx", (1, 3, 24, 32)), {}, TypeError, "example must be a tensor or a sequence of tensors, got tuple"),
        (("net.onnx", ()), {}, TypeError, "example must be a tensor"),
        (("net.onnx", IMAGE.half()), {}, TypeError, r"must be float32, got example\[0\] in torch.float16"),
        (("net.onnx", IMAGE), {"fixed_size": 24}, ValueError, r"fixed_size must be \(height, width\)"),
        (("net.onnx", IMAGE), {"dynamic": 1}, TypeError, "dynamic must be a bool"),
    ],
)
def test_bad_calls(arguments, options, error, message, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        to_onnx(own(), *arguments, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("example", [torch.rand(3, 24, 32), torch.rand(1, 3, 0, 32), [IMAGE, IMAGE]])
def test_a_network_of_the_package_takes_one_image(example, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"example must be one image .*, got shape \(\d, "):
        to_onnx(networks.create("enet_minus", 3, (24, 32)), tmp_path / "net.onnx", example)


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"got 0\.weight in torch.float64: call \.float\(\) first"):
        to_onnx(own().double(), tmp_path / "net.onnx", IMAGE)
