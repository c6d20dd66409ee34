"""Fixed views of images, over which the probabilities of a classifier are averaged: test-time augmentation.

They are what the augmentations of training can make of an image (see fmnist.data.augment), each of them once. No torch
until they are made.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist import UserError

if TYPE_CHECKING:
    from torch import Tensor

WORDS = "must be shift=N (1 to 9 pixels), flip or both, such as shift=1,flip"


@dataclass(frozen=True)
class Views:
    """The views that a text asks for, such as "shift=1,flip": the (2 shift + 1)^2 images that are moved by up to so
    many pixels, down and across, what comes in being black; with flip each as it is and turned left to right. Raises
    UserError for a text that asks for none."""

    text: str

    def __post_init__(self) -> None:
        words = self.text.split(",")
        known = all(re.fullmatch(r"shift=[1-9]|flip", word, re.ASCII) for word in words)
        if not known or len({word[:1] for word in words}) < len(words):
            raise UserError(f"views {WORDS}, got {self.text!r}")

    @property
    def most(self) -> int:
        """The pixels by which images are moved at most."""
        found = re.search("[1-9]", self.text)
        return int(found[0]) if found else 0

    def __len__(self) -> int:
        return (2 * self.most + 1) ** 2 * (1 + ("flip" in self.text))

    def of(self, height: int, width: int) -> "list[Callable[[Tensor], Tensor]]":
        """A function for each view of images of this size: pixels (n, height * width) of any type -> the same."""
        import torch  # here, so that a command reads its arguments without it

        from fmnist.data.augment import DRAWS, shift

        side = 2 * self.most + 1
        places = [(down, across) for down in range(side) for across in range(side)]
        turns = (False, True) if "flip" in self.text else (False,)

        def view(place: tuple[int, int], turned: bool) -> "Callable[[Tensor], Tensor]":
            def seen(pixels: "Tensor") -> "Tensor":
                images = pixels.view(-1, height, width)
                drawn = torch.zeros(len(images), DRAWS)
                drawn[:, :2] = (torch.tensor(place) + 0.5) / side  # the middle of what draws this place
                moved = shift(images, self.most, drawn.to(pixels.device)) if self.most else images
                return (moved.flip(-1) if turned else moved).reshape(pixels.shape)

            return seen

        return [view(place, turned) for place in places for turned in turns]
