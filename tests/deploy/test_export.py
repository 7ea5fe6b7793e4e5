"""Exported networks compute the same without this package (ONNX) or without its classes (exported programs)."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from box_convolution import BoxBottleneck, BoxConv2d, box_conv2d
from box_convolution.deploy import agreement, deploy, exported, onnx_files, pt2_files, standard_operators, to_onnx
from box_convolution.networks.enet import Downsample, Upsample
from box_convolution.networks.padding import PaddedNetwork

FUSED = torch.ops.box_convolution.box_conv2d_fused
ABOUT = {"classes": ["a", "b"], "size": [16, 32]}


class Small(PaddedNetwork):
    """A network with one block of each kind, which is small enough to be exported in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.down, self.up = Downsample(8, 16, dropout=0.1), Upsample(16, 8)
        self.block = BoxBottleneck(16, boxes_per_channel=4, max_input_h=8, max_input_w=8, dropout=0.2)
        self.box = BoxConv2d(8, 2, 8, 8, stride=2, normalize=False)
        self.head = nn.ConvTranspose2d(16, 2, 8, stride=8)

    def logits(self, image: Tensor) -> Tensor:
        quarter, indices = self.down(self.first(image))
        return self.head(self.box(self.up(self.block(quarter), indices)) / 100)


def images(*sizes: tuple[int, int]) -> list[tuple[Tensor]]:
    return [(torch.zeros(1, 3, *size),) for size in sizes]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    network = Small()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, 64, 64))
    return deploy(network)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("stride", [1, 3])
def test_standard_operations_equal_the_operator(normalize: bool, stride: int) -> None:
    image, residual = torch.randn(2, 3, 40, 31), torch.randn(2, 6, -(-40 // stride), -(-31 // stride))
    centre, half = 20 * torch.randn(3, 2, 2), 25 * torch.rand(3, 2, 2) + 0.5
    boxes = torch.stack((centre - half, centre + half), -1).flatten(-2)
    scale = image.abs().max().item() * (1 if normalize else 40 * 31)
    plain = standard_operators.box_conv2d(image, boxes, normalize, stride)
    torch.testing.assert_close(
        plain, box_conv2d(image, boxes, normalize=normalize, stride=stride), rtol=0, atol=2e-6 * scale
    )
    parts = torch.randn(6), torch.randn(6), residual, True, normalize, stride
    fused = standard_operators.box_conv2d_fused(image, boxes, *parts)
    torch.testing.assert_close(fused, FUSED(image, boxes, *parts), rtol=0, atol=1e-5 * scale)
    assert standard_operators.box_conv2d(image.half(), boxes, normalize, stride).dtype == torch.float16


@pytest.fixture(scope="module")
def onnx_file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    assert to_onnx(network, path, torch.zeros(1, 3, 64, 96), metadata=ABOUT) < 1e-5
    return path


@pytest.fixture(scope="module")
def program_file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    pt2_files.save_program(network, path, ABOUT)
    return path


def test_onnx_has_standard_operators_and_free_sizes(onnx_file: Path) -> None:
    import onnx

    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    for value in (*model.graph.input, *model.graph.output):
        names = [dim.dim_param for dim in value.type.tensor_type.shape.dim]
        assert [names[0], *names[2:]] == ["batch", "height", "width"]
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}[exported.KEY]) == ABOUT


@pytest.mark.parametrize("kind", ["onnx", "program"])
def test_opened_files_give_the_same_answer(kind: str, network: nn.Module, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(f"{kind}_file")
    opened, about = (onnx_files.open_onnx if kind == "onnx" else pt2_files.open_program)(path)
    assert about == ABOUT
    opened.eval().to("cpu")
    for largest, share in agreement.differences(network, opened, images((16, 32), (64, 96), (33, 50))):
        assert largest < 1e-5
        assert share == 0


def test_a_foreign_reader_of_the_program(network: nn.Module, program_file: Path) -> None:
    program = torch.export.load(str(program_file))
    assert "box_convolution.box_conv2d_fused.default" in {str(node.target) for node in program.graph.nodes}
    image = torch.randn(5, 3, 24, 80)
    # Up to PyTorch 2.9 at least, such a program tries to record gradients, which box convolutions of inference refuse.
    with torch.no_grad() if torch.__version__ < (2, 13) else nullcontext():
        torch.testing.assert_close(program.module()(image), network(image))


ALONE = """
import sys
sys.modules["box_convolution"] = None  # as if it were not installed
import torch
program, image, answer = sys.argv[1:]
if program.endswith(".aoti.pt2"):
    network = torch._inductor.aoti_load_package(program)
else:
    network = torch.export.load(program).module()
torch.save(network(torch.load(image)), answer)
"""


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_a_program_of_standard_operators_needs_no_package(network: nn.Module, compiled: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    pt2_files.save_program(network, path, ABOUT, standard_operators=True)
    program = torch.export.load(str(path))
    assert not any("box_convolution" in str(node.target) for node in program.graph.nodes)
    if compiled:
        if not shutil.which("g++"):
            pytest.skip("needs a C++ compiler")
        if torch.__version__ < (2, 9):
            pytest.skip("what PyTorch 2.6 makes of it ahead of time does not compile: a size is not declared")
        path = tmp_path / "net.aoti.pt2"
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    image = torch.randn(5, 3, 24, 80)
    torch.save(image, tmp_path / "image.pt")
    subprocess.run([sys.executable, "-c", ALONE, path, tmp_path / "image.pt", tmp_path / "answer.pt"], check=True)
    expected = network(image)
    torch.testing.assert_close(
        torch.load(tmp_path / "answer.pt"), expected, rtol=0, atol=1e-5 * expected.abs().max().item()
    )


def test_differences_are_found(network: nn.Module) -> None:
    shifted = lambda image: network(image) + 0.5 * (image[:, :1] > 0)  # noqa: E731
    ((largest, share),) = agreement.differences(network, shifted, images((32, 32)))
    assert largest > 0.01
    assert 0.3 < share < 0.7


@pytest.mark.parametrize("good", [0, 1, 2])
def test_nan_is_not_taken_for_agreement(network: nn.Module, good: int) -> None:
    calls = []

    def broken(image: torch.Tensor) -> torch.Tensor:
        calls.append(image)
        return network(image) if len(calls) <= good else network(image) * float("nan")

    assert list(agreement.differences(network, broken, images((32, 32)))) == [(float("inf"), 1.0)]


def test_one_image_where_rounding_decides_is_no_difference(network: nn.Module) -> None:
    calls = []

    def unlucky(image: torch.Tensor) -> torch.Tensor:
        calls.append(image)
        return network(image) + (0.5 * (image[:, :1] > 0) if len(calls) == 2 else 0)

    assert list(agreement.differences(network, unlucky, images((32, 32)))) == [(0.0, 0.0)]
    assert len(calls) == agreement.INPUTS


def test_what_rounding_explains_is_no_difference() -> None:
    """Networks whose answers jump with the last digit of the input; not more, and not everywhere else."""
    jumps = lambda image: image + (image * 2**22 % 1 > 0.5)  # noqa: E731
    others = {
        "rounded in another way": (lambda image: image + (image * (1 + 3e-7) * 2**22 % 1 > 0.5), True),
        "another network": (lambda image: jumps(image) + 3 * (image > 0), False),
    }
    for name, (other, same) in others.items():
        ((largest, share),) = agreement.differences(jumps, other, images((32, 32)))
        assert largest > 0.1, name
        assert (share == 0) == same, name


def test_unusable_files(tmp_path: Path, onnx_file: Path, program_file: Path, network: nn.Module) -> None:
    readers = ("x.onnx", onnx_files.open_onnx, onnx_file), ("x.pt2", pt2_files.open_program, program_file)
    for name, reader, good in readers:
        path = tmp_path / name
        for content in (b"", b"nonsense", good.read_bytes()[:1000]):
            path.write_bytes(content)
            with pytest.raises(exported.ExportError, match=f"{name}: not a usable"):
                reader(path)
    torch.export.save(torch.export.export(nn.Conv2d(3, 3, 1), (torch.zeros(1, 3, 4, 4),)), str(tmp_path / "other.pt2"))
    with pytest.raises(exported.ExportError, match="was not written by boxconv export"):
        pt2_files.open_program(tmp_path / "other.pt2")


def test_a_program_of_another_torch_says_so(program_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> None:
        raise RuntimeError("version 9 is unknown")

    monkeypatch.setattr(torch.export, "load", fails)
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    made_with = pt2_files._torch_of(program_file)
    assert made_with not in (None, "2.6.0")
    words = f"net.pt2: was made with torch {made_with}, and torch 2.6.0 cannot read it \\(version 9 is unknown\\)"
    with pytest.raises(exported.ExportError, match=words.replace("+", "\\+")):
        pt2_files.open_program(program_file)
