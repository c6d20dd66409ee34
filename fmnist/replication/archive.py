"""Run records packed into one small file: what a table or picture was made of, kept beside it. No torch.

A file is gzip'd JSON lines, one run each, with numbers to six digits; the same runs give the same bytes. It has the
runs that finished and, with status, error and the rows that they recorded, those that failed.
"""

import gzip
import io
import json
import zlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from fmnist import UserError
from fmnist.program.files import replacing
from fmnist.program.reading import gunzipped, numeric, parsed
from fmnist.report import records
from fmnist.report.comparison import Result

MOST = 1 << 28  # bytes of a file, unpacked: ten times those of the largest


def pack(results: Sequence[Result], file: Path) -> None:
    """Write the finished and the failed runs among some results, in the order of their names."""
    lines = []
    ended = [result for result in results if result.status in ("done", "failed")]
    for result in sorted(ended, key=lambda result: result.directory.name):
        tags = list(dict.fromkeys(tag for row in result.rows for tag in row))
        rows = {tag: [_short(row.get(tag)) for row in result.rows] for tag in tags}
        metrics = {tag: _short(value) for tag, value in result.metrics.items()}
        failure = {} if result.status == "done" else {"status": result.status, "error": result.error}
        lines.append(json.dumps({
            "run": result.directory.name, "knobs": result.knobs, "metrics": metrics, "rows": rows,
            "seconds": round(result.seconds, 2), "config_hash": result.config_hash, "commit": result.commit, **failure,
            **({"earlier": result.earlier} if result.earlier else {}),
        }, separators=(",", ":")) + "\n")  # fmt: skip
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream:
        stream.write("".join(lines).encode())
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, "wb") as target:
        target.write(packed.getvalue())


def unpack(file: Path) -> list[Result]:
    """The runs of a file that `pack` wrote. Raises UserError where there is none, or it is damaged."""
    try:
        lines = gunzipped(file, MOST).splitlines()
        return [_result(parsed(line), file) for line in lines]
    except FileNotFoundError:
        raise UserError(f"there are no records of runs in {file}") from None
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({type(error).__name__}: {error})") from None


def _result(run: dict[str, Any], file: Path) -> Result:
    name, tags = str(run["run"]), run["rows"]
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r:.40} is no name of a run")
    if not numeric(value for value in chain([run["seconds"]], *tags.values()) if value is not None):
        raise ValueError(f"{name!r:.40} has rows of something else than numbers")
    records.knobs(run["knobs"])  # raises where no run has such
    metrics = records.metrics(run["metrics"], "metrics")
    rows = [
        {tag: values[number] for tag, values in tags.items() if values[number] is not None}
        for number in range(len(tags.get("epoch", [])))
    ]
    return Result(
        file.parent / name, run.get("status", "done"), run.get("error"), run["knobs"], metrics,
        run["seconds"], run["config_hash"], run["commit"], rows, earlier=tuple(run.get("earlier", ())),
    )  # fmt: skip


def _short(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else float(f"{value:.6g}")
