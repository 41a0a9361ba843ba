"""Images of many formats, written by Pillow and by hand, and their pixels as Pillow reads them (16 bits scaled to 8).

    python make.py        (Pillow, NumPy)
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
rng = np.random.default_rng(0)
rgb = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
deep = rng.integers(0, 65536, (5, 7), dtype=np.uint16)
turned = Image.Exif()
turned[0x112] = 6

files = {
    "rgb.bmp": (rgb, {}),
    "gray.bmp": (rgb.convert("L"), {}),
    "palette.bmp": (rgb.convert("P"), {}),
    "bits.bmp": (rgb.convert("1"), {}),
    "rgb.tif": (rgb, {}),
    "lzw.tif": (rgb, {"compression": "tiff_lzw"}),
    "deflate.tif": (rgb, {"compression": "tiff_deflate"}),
    "gray.tif": (rgb.convert("L"), {}),
    "palette.tif": (rgb.convert("P"), {}),
    "bits.tif": (rgb.convert("1"), {}),
    "alpha.tif": (rgb.convert("RGBA"), {}),
    "deep.tif": (Image.fromarray(deep), {}),
    "deep.png": (Image.fromarray(deep), {}),
    "turned.tif": (rgb, {"exif": turned}),
    "rgb.ppm": (rgb, {}),
    "gray.pgm": (rgb.convert("L"), {}),
    "bits.pbm": (rgb.convert("1"), {}),
    "palette.png": (rgb.convert("P"), {}),
    "bits.png": (rgb.convert("1"), {}),
    "no_ending": (rgb, {"format": "BMP"}),
}
expected = {}
for name, (image, options) in files.items():
    image.save(HERE / name, **options)
    pixels = np.repeat(deep[..., None] // 257, 3, 2) if name.startswith("deep") else np.asarray(image.convert("RGB"))
    expected[name] = {"size": list(pixels.shape[:2]), "rgb": pixels.flatten().tolist()}
(HERE / "ascii.ppm").write_text("P3\n# a comment\n2 1 255\n1 2 3 250 251 252\n")
expected["ascii.ppm"] = {"size": [1, 2], "rgb": [1, 2, 3, 250, 251, 252]}
(HERE / "hundred.pgm").write_bytes(b"P5 2 1 100\n" + bytes([50, 100]))
expected["hundred.pgm"] = {"size": [1, 2], "rgb": np.asarray(Image.open(HERE / "hundred.pgm").convert("RGB")).flatten().tolist()}
Image.fromarray(rng.random((5, 7), dtype=np.float32)).save(HERE / "float.tif")
(HERE / "expected.json").write_text(json.dumps(expected) + "\n")
