"""Pictures of classifiers, as PNG: mistakes, confusion, calibration, the weights of the first layer.

They are drawn with Pillow: matplotlib takes ten times as long, and each run of a sweep has them. None is wider than
one of TensorBoard's cards, which would shrink it without smoothing.
"""

import io
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fmnist.nn.layers import Linear
from fmnist.view.measure import Seen
from fmnist.view.tally import Tally

WIDTH = 340  # pixels of each picture
ACROSS, SHOWN = 4, 24  # mistakes in a row, and in all
UNITS = 40  # of the first layer, whose weights are shown
INK, PALE, GREEN, BLUE, RED = "#24292f", "#d0d7de", "#1a7f37", (34, 102, 170), (178, 24, 43)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.quantize(96).save(stream, "png")
    return stream.getvalue()


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (width, height), "white")
    return picture, ImageDraw.Draw(picture)


def _clipped(draw: ImageDraw.ImageDraw, text: str, size: int, width: int) -> str:
    """As much of a text as fits; what cannot be printed is left out."""
    text = "".join(c for c in text if c.isprintable())
    while text and draw.textlength(text, font=_font(size)) > width:
        text = text[:-1]
    return text


def _tile(pixels: Tensor, height: int, width: int, side: int) -> Image.Image:
    """An image (pixels; uint8) magnified into a square."""
    scale = side / max(height, width)
    image = Image.fromarray(pixels.view(height, width).cpu().numpy())
    return image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.NEAREST)


def mistakes(stack: Seen, run: int, seen: Tally) -> bytes:
    """The test images that the run was surest of and wrong: what it took each for, how surely, and what it is."""
    dataset = stack.dataset
    rows = [row for row in seen.worst[run].tolist()[:SHOWN] if row >= 0]
    wide = (WIDTH - 8) // ACROSS
    side = wide - 8
    picture, draw = _canvas(WIDTH, max(1, math.ceil(len(rows) / ACROSS)) * (side + 34) + 42)
    draw.text((8, 4), "surest mistakes on the test images" if rows else "no mistakes", fill=INK, font=_font(13))
    draw.text((8, 21), "red: taken for, with probability; green: in truth", fill=INK, font=_font(11))
    for place, row in enumerate(rows):
        x, y = 8 + place % ACROSS * wide, 40 + place // ACROSS * (side + 34)
        picture.paste(_tile(dataset.test.images[row], dataset.height, dataset.width, side), (x, y))
        taken, truth = (dataset.names[int(c)] for c in (seen.taken[run, place], dataset.test.labels[row]))
        share = f" {100 * float(seen.confidence[run, place]):.0f}%"
        room = side - math.ceil(draw.textlength(share, font=_font(11)))
        draw.text((x, y + side + 1), _clipped(draw, taken, 11, room) + share, fill=RED, font=_font(11))
        draw.text((x, y + side + 14), _clipped(draw, truth, 11, side), fill=GREEN, font=_font(11))
    return _png(picture)


def confusion(stack: Seen, run: int, seen: Tally) -> bytes:
    """How many test images of each class (down) were taken for which (across); darker is a larger share of the row."""
    counts, names = seen.confusion[run].cpu(), stack.dataset.names
    left, top, right = 78, 92, 34
    cell = max(4, (WIDTH - left - right) // len(names))
    size = min(10, cell // 2)
    picture, draw = _canvas(left + cell * len(names) + right, top + cell * len(names) + 10)
    draw.text((8, 4), "rows: in truth; columns: taken for; right: recall", fill=INK, font=_font(12))
    for i, name in enumerate(names):
        middle = cell * i + cell // 2
        draw.text(
            (left - 5, top + middle), _clipped(draw, name, size, left - 8), fill=INK, font=_font(size), anchor="rm"
        )
        upright = Image.new("RGB", (top - 28, cell), "white")
        label = _clipped(draw, name, size, top - 30)
        ImageDraw.Draw(upright).text((0, cell // 2), label, fill=INK, font=_font(size), anchor="lm")
        picture.paste(upright.rotate(90, expand=True), (left + cell * i, 24))
        total = int(counts[i].sum())
        for j in range(len(names)):
            share = int(counts[i, j]) / total if total else 0.0
            fill = _between((255, 255, 255), BLUE if i == j else RED, math.sqrt(share))
            x, y = left + cell * j, top + cell * i
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=fill, outline=PALE)
            if (count := int(counts[i, j])) and size > 5:
                ink = "white" if share > 0.3 else INK
                where = x + cell // 2 - 1, y + cell // 2 - 1
                draw.text(where, str(count), fill=ink, font=_font(size), anchor="mm")
        if total and size > 5:
            recall = f"{100 * int(counts[i, i]) / total:.1f}%"
            draw.text((left + cell * len(names) + 3, top + middle), recall, fill=INK, font=_font(size), anchor="lm")
    return _png(picture)


def _between(one: Sequence[int], other: Sequence[int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def calibration(stack: Seen, run: int, seen: Tally) -> bytes:
    """Reliability diagram (Guo et al. 2017): of the test images to which a run gave such a probability, how many it got
    right. Below the diagonal it is too sure of itself. The expected calibration error is the mean distance."""
    rows, sure, right = seen.bins[run].cpu().T
    side, left, top = WIDTH - 52, 40, 28
    picture, draw = _canvas(WIDTH, top + side + 42)
    error = float((sure - right).abs().sum() / rows.sum().clamp(min=1))
    draw.text((8, 4), f"test images: expected calibration error {error:.4f}", fill=INK, font=_font(12))
    for tenth in range(0, 11, 2):
        at = side * tenth / 10
        draw.line((left, top + side - at, left + side, top + side - at), fill=PALE)
        draw.text((left - 8, top + side - at), f"{tenth / 10:g}", fill=INK, font=_font(11), anchor="rm")
        draw.text((left + at, top + side + 6), f"{tenth / 10:g}", fill=INK, font=_font(11), anchor="mt")
    width = side / len(rows)
    for place, (count, correct) in enumerate(zip(rows.tolist(), right.tolist(), strict=True)):
        if count:
            x, height = left + width * place, side * correct / count
            fill = _between((255, 255, 255), BLUE, 0.55 + 0.45 * math.sqrt(count / float(rows.max())))
            draw.rectangle((x + 1, top + side - height, x + width - 1, top + side), fill=fill)
            draw.text((x + width / 2, top + side - 2), _short(int(count)), fill="white", font=_font(9), anchor="mb")
    draw.line((left, top + side, left + side, top), fill=RED, width=2)
    draw.rectangle((left, top, left + side, top + side), outline=INK)
    words = "probability of the chosen class; bars: share that is right, of how many"
    draw.text((WIDTH / 2, top + side + 24), words, fill=INK, font=_font(10), anchor="mt")
    return _png(picture)


def _short(count: int) -> str:
    return f"{count / 1000:.1f}k" if count >= 1000 else str(count)


def weights(stack: Seen, run: int) -> bytes | None:
    """What the units of the first layer look for: their weights as images, red where a pixel speaks for the unit and
    blue where it speaks against it. Those with the largest weights; None where no layer sees the pixels."""
    first = next((layer for layer in stack.model.modules() if isinstance(layer, Linear)), None)
    if first is None or first.weight.shape[-1] != stack.dataset.height * stack.dataset.width:
        return None
    units = first.weight[run].detach().float().cpu().nan_to_num(0.0)
    chosen = units[units.norm(dim=1).topk(min(UNITS, len(units))).indices.sort().values]
    shares = (chosen / chosen.abs().amax(1, keepdim=True).clamp(min=1e-12))[..., None]
    towards = torch.where(shares > 0, torch.tensor(RED), torch.tensor(BLUE))
    colours = (255 - shares.abs() * (255 - towards)).round().to(torch.uint8).numpy()
    across = 8
    side = (WIDTH - 12) // across - 2
    picture, draw = _canvas(WIDTH, math.ceil(len(colours) / across) * (side + 2) + 44)
    draw.text((8, 4), f"weights of {len(colours)} of {len(units)} units of the first layer", fill=INK, font=_font(13))
    draw.text((8, 21), "red: a white pixel speaks for the unit; blue: against it", fill=INK, font=_font(11))
    for place, pixels in enumerate(colours):
        image = Image.fromarray(np.ascontiguousarray(pixels.reshape(stack.dataset.height, stack.dataset.width, 3)))
        image.thumbnail((side, side))
        at = 8 + place % across * (side + 2), 40 + place // across * (side + 2)
        picture.paste(image.resize((side, side), Image.Resampling.NEAREST), at)
    return _png(picture)
