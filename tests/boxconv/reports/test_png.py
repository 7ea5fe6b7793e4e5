"""PNG files written in parts, read back by Pillow."""

import numpy as np
import pytest
from PIL import Image

from boxconv.reports import png

SHAPES = [(1, 1), (7, 5), (40, 33), (13, 9, 3)]


@pytest.mark.parametrize("pixels", [1, 40, 10**6])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_read_back(shape, pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(png, "_BAND_PIXELS", pixels)
    for dtype in (np.uint8, np.uint16)[: 1 if len(shape) == 3 else 2]:
        picture = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        parts = [picture[rows] for rows in png.bands(*shape[:2])]
        assert len(parts) == -(-shape[0] // max(1, pixels // shape[1]))
        png.write_png_bands(tmp_path / "a.png", len(picture), iter(parts))
        with Image.open(tmp_path / "a.png") as image:
            image.verify()  # checksums
        read = np.asarray(Image.open(tmp_path / "a.png"))
        assert read.shape == shape
        assert (read == picture).all()


def test_strided_parts(tmp_path):
    picture = np.arange(60, dtype=np.uint8).reshape(6, 10)[:, ::-2]
    png.write_png_bands(tmp_path / "a.png", 6, [picture])
    assert (np.asarray(Image.open(tmp_path / "a.png")) == picture).all()
