"""Images as users have them, checked, and as a model takes them: rows of pixels."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmnist import UserError


def rows(images: Any, height: int, width: int) -> Tensor:
    """Images of this size as (n, height*width), uint8 in 0..255 or floating-point numbers in [0, 1].

    images: a torch tensor, or what numpy makes an array of; (n, height, width), (n, 1, height, width), (n,
    height*width), or one image, (height, width). Raises UserError for any other shape, type or range.
    """
    found = tensor(images)
    check_values(found)
    shape, size = tuple(found.shape), height * width
    fitting = shape[1:] in ((size,), (height, width), (1, height, width))
    if not fitting and shape != (height, width):
        allowed = f"(n, {height}, {width}), (n, 1, {height}, {width}), (n, {size}) or ({height}, {width})"
        raise UserError(f"images must have the shape {allowed}, got {shape}")
    return found.reshape(-1, size).contiguous()


def tensor(images: Any) -> Tensor:
    """Images as a tensor, whatever their shape. Raises UserError where numpy makes no array of numbers of them."""
    if isinstance(images, Tensor):
        return images.detach()
    try:
        array = np.asarray(images)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    except (TypeError, ValueError) as error:
        raise UserError(f"images must be an array of numbers: {str(error).splitlines()[0]}") from None


def check_values(images: Tensor) -> None:
    """Raise UserError for images that are neither bytes nor floating-point numbers in [0, 1]."""
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise UserError(f"images must be uint8 in 0..255 or floats in [0, 1], got {_name(images)}")
    if images.numel():
        low, high = (float(each) for each in images.aminmax())
        if not (low >= 0 and high <= 1):  # nan is neither
            remedy = "; divide them by 255" if 1 < high <= 255 and low >= 0 else ""
            raise UserError(f"images of floats must be in [0, 1], got {low:g} to {high:g}{remedy}")


def _name(images: Tensor) -> str:
    return str(images.dtype).removeprefix("torch.")


def as_bytes(images: Any) -> np.ndarray:
    """The same in 256 grey levels, uint8: floating-point numbers are multiplied by 255 and rounded."""
    found = tensor(images)
    check_values(found)
    levels = found if found.dtype == torch.uint8 else (found.double() * 255).round().to(torch.uint8)
    array: np.ndarray = levels.cpu().numpy()
    return array
