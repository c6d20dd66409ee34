"""The files of TensorBoard's projector: points, their labels and their pictures."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmnist.program.files import replacing, sync_folder

FOLDER = "projector"
CONFIG = """embeddings {{
  tensor_name: "{name}"
  tensor_path: "{folder}/tensors.tsv"
  metadata_path: "{folder}/labels.tsv"
  sprite {{
    image_path: "{folder}/sprite.png"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""


def write(directory: Path, points: Any, labels: Sequence[str], thumbnails: Any) -> None:
    """Write points (n, numbers), a label for each, and its thumbnail (n, height, width; uint8), as numpy arrays, below
    a folder with events."""
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    sync_folder(directory)
    lines = ["\t".join(f"{number:.4g}" for number in point) for point in points.tolist()]
    _write(folder / "tensors.tsv", "\n".join(lines).encode())
    plain = [" ".join(str(label).split()) or "?" for label in labels]  # a line break would end the label
    _write(folder / "labels.tsv", "\n".join(plain).encode())
    _write(folder / "sprite.png", sprite(thumbnails))
    config = CONFIG.format(name=f"{points.shape[1]} numbers", folder=FOLDER, side=max(thumbnails.shape[1:]))
    _write(directory / "projector_config.pbtxt", config.encode())


def _write(file: Path, content: bytes) -> None:
    with replacing(file, "wb") as stream:
        stream.write(content)


def sprite(thumbnails: Any) -> bytes:
    """All thumbnails (n, height, width; uint8) as one PNG of squares, row after row: the projector draws no others."""
    import numpy as np
    from PIL import Image

    count, height, width = thumbnails.shape
    across, side = math.ceil(math.sqrt(count)), max(height, width)
    squares = np.zeros((across * across, side, side), np.uint8)
    squares[:count, :height, :width] = thumbnails
    whole = squares.reshape(across, across, side, side).swapaxes(1, 2).reshape(across * side, across * side)
    stream = io.BytesIO()
    Image.fromarray(whole).save(stream, "png")
    return stream.getvalue()
