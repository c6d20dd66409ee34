"""`python -m fmnist.data`: fetch and verify Fashion-MNIST."""

import argparse
import logging
import sys

from fmnist import UserError, run_command
from fmnist.sources import fetch


def main() -> None:
    about = "Fetch Fashion-MNIST if it is not at hand, verify its files and print where they are."
    parser = argparse.ArgumentParser(prog="python -m fmnist.data", description=about)
    place = "existing folder that has the files or gets them (default: data/ of the project)"
    parser.add_argument("dir", nargs="?", metavar="DIR", help=place)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        files = fetch.fashion(arguments.dir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    for name in fetch.FASHION:
        path, rows = files[name].path, files[name].shape[0]
        print(f"{path if path.exists() else name}  {rows:,} rows  sha256 {fetch.FASHION[name][:12]}  ok")


if __name__ == "__main__":
    run_command(main)
