"""What was seen of the layers while a run trained (`histograms=true`), kept in layers.jsonl for a run that goes on."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from fmnist.program.reading import contents, numeric, parsed

NAME = "layers.jsonl"
LARGEST = 1 << 28  # bytes


def kept(directory: Path, epoch: int) -> list[dict[str, Any]]:
    """What was written up to an epoch. The file has no other lines then; it is removed where there are none."""
    file, rows = directory / NAME, []
    with suppress(FileNotFoundError):
        for line in contents(file, LARGEST).splitlines():
            with suppress(ValueError, KeyError, TypeError, AttributeError, IndexError):  # half a line, or another's
                row = parsed(line)
                if row["epoch"] <= epoch and _whole(row):
                    rows.append(row)
        if rows:
            part = file.with_name(f"{NAME}.part")
            part.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
            part.replace(file)
        else:
            file.unlink()
    return rows


def _whole(row: dict[str, Any]) -> bool:
    bounds = all(numeric([low, high, *counts]) and low < high and counts
                 for low, high, counts in row["histograms"].values())  # fmt: skip
    return bounds and all(numeric(numbers) and numbers for numbers in row["by layer"].values())


def add(directory: Path, epoch: int, seen: dict[str, Any]) -> None:
    """Append what was seen in an epoch. Raises OSError."""
    with open(directory / NAME, "a", encoding="utf-8") as file:
        file.write(json.dumps({"epoch": epoch, **seen}) + "\n")
