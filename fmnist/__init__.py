"""A research bench for Fashion-MNIST: hand-made layers, Hydra configs, one training loop, honest records."""

__version__ = "0.1.0"


class UserError(Exception):
    """A mistake the user can mend: shown as one line that names the knob and what is allowed, exit status 2."""
