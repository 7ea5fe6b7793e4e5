"""The C interface used without Python: installed by CMake, found by CMake, called from C."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from library_build import ROOT, build_library

from box_convolution import box_conv2d

BOX = (-3.25, 5.5, -1.5, 8.75)


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cmake") or not shutil.which("cc"):
        pytest.skip("needs CMake and a C compiler")
    folder = tmp_path_factory.mktemp("c")
    build_library(folder / "library", folder / "prefix", {"CMAKE_BUILD_TYPE": "None", "BOX_OPTIMIZATION": "-O0"})
    build = folder / "example"
    run("cmake", "-S", ROOT / "examples" / "c", "-B", build, f"-DCMAKE_PREFIX_PATH={folder / 'prefix'}")
    run("cmake", "--build", build)
    return build / "box_average"


@pytest.mark.slow
def test_a_program_in_c_computes_the_layer(program: Path, tmp_path: Path) -> None:
    image = torch.randint(256, (23, 31), dtype=torch.uint8)
    path = tmp_path / "image.pgm"
    path.write_bytes(b"P5\n31 23\n255\n" + bytes(image.flatten().tolist()))
    expected = box_conv2d(image.float()[None, None], torch.tensor([[BOX]]))[0, 0]
    lines = [line.split() for line in run(program, path, *BOX).splitlines()]
    assert len(lines) == 5
    for row, column, average in lines:
        assert float(average) == pytest.approx(expected[int(row), int(column)].item(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["image.pgm"], "usage: "),
        (["missing.pgm", *BOX], "IMAGE must be a binary PGM file"),
        (["image.pgm", 1, 0, 0, 1], "TOP must be less than BOTTOM"),
    ],
)
def test_bad_calls(program: Path, tmp_path: Path, arguments: list[object], message: str) -> None:
    (tmp_path / "image.pgm").write_bytes(b"P5\n1 1\n255\n\0")
    done = subprocess.run([program, *map(str, arguments)], cwd=tmp_path, text=True, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert message in done.stderr
