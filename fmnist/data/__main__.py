"""`python -m fmnist.data`: see fmnist.sources.command."""

from fmnist.program.output import run_command
from fmnist.sources.command import main

if __name__ == "__main__":
    run_command(main)
