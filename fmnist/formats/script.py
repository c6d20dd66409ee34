"""The lines of Python that build a network of torch.nn alone, and load its weights."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from torch import nn

from fmnist import UserError
from fmnist.formats.network import one_gaussian
from fmnist.nn.layers import Gated, Residual
from fmnist.nn.models import Autoencoder

# The arguments of torch.nn's layers as one writes them; those that are left out have torch's own defaults.
ARGUMENTS: dict[type[nn.Module], Callable[[Any], str]] = {
    nn.Linear: lambda layer: f"{layer.in_features}, {layer.out_features}",
    nn.BatchNorm1d: lambda layer: f"{layer.num_features}",
    nn.LayerNorm: lambda layer: f"{layer.normalized_shape[0]}",
    nn.Dropout: lambda layer: f"{layer.p:g}",
    **dict.fromkeys((nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Identity), lambda layer: ""),
}
RESIDUAL = '''

class Residual(nn.Module):
    """x, or its projection, plus what the inner layers make of x."""

    def __init__(self, inner, projection=None):
        super().__init__()
        self.inner, self.projection = inner, projection

    def forward(self, x):
        return (x if self.projection is None else self.projection(x)) + self.inner(x)
'''
GATED = '''

class Gated(nn.Module):
    """What the inner layers make of x times what the gate's layers make of it."""

    def __init__(self, inner, gate):
        super().__init__()
        self.inner, self.gate = inner, gate

    def forward(self, x):
        return self.inner(x) * self.gate(x)
'''
AUTOENCODER = '''

class Autoencoder(nn.Module):
    """images -> code, reconstruction."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images):
        code = self.encoder(images)
        return code, self.decoder(code).sigmoid()
'''
VARIATIONAL = '''

class VAE(nn.Module):
    """images -> mean and log variance of q(z|x), and the reconstruction from the mean."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images):
        mean, log_variance = self.encoder(images).chunk(2, -1)
        return mean, log_variance, self.decoder(mean).sigmoid()
'''


PSEUDO_INPUTS = (
    "# the prior is the mean of q(z|u) over these images u, cut to [0, 1]\n"
    'model.pseudo_inputs = nn.ParameterDict({{"images": torch.zeros({size})}})\n'
)


def script(network: nn.Module, says: str, classes: Sequence[str], weights: str, dtype: str) -> str:
    """A file that defines `model`, and CLASSES where there are any. says: its docstring. classes: their names. weights:
    the name of the safetensors file beside it. dtype: of its numbers, as "float32". Raises UserError where a layer is
    not one of torch.nn's."""
    has = {type(layer) for layer in network.modules()}
    needed = (RESIDUAL if Residual in has else "") + (GATED if Gated in has else "")
    if one_gaussian(network) or isinstance(network, Autoencoder):
        needed += AUTOENCODER if isinstance(network, Autoencoder) else VARIATIONAL
        name = "Autoencoder" if isinstance(network, Autoencoder) else "VAE"
        made = f"{name}(\n    {_code(network.encoder, 4)},\n    {_code(network.decoder, 4)},\n)"
    else:
        made = _code(network)
    learnt = getattr(network, "pseudo_inputs", None)
    given = "" if learnt is None else PSEUDO_INPUTS.format(size=f"{[*learnt.images.shape]}, dtype=torch.{dtype}")
    other, tensors = dtype != "float32", dtype != "float32" or given
    names = f"CLASSES = {tuple(classes)!r}\n" if classes else ""
    return (
        f'"""{says}"""\n\nfrom pathlib import Path\n\n{"import torch" if tensors else ""}{chr(10) if tensors else ""}'
        f"from safetensors.torch import load_file\nfrom torch import nn\n{needed}{chr(10) if needed else ''}\n"
        f"{names}model = {made}{f'.to(torch.{dtype})' if other else ''}\n{given}"
        f'model.load_state_dict(load_file(Path(__file__).with_name("{weights}")))\nmodel.eval()\n'
    )


def _code(layer: nn.Module, indent: int = 0) -> str:
    """The expression that makes a layer. A Sequential has a line for each of its linear layers with what follows."""
    if isinstance(layer, Residual):
        projection = "" if layer.projection is None else f", {_code(layer.projection)}"
        return f"Residual({_on_one_line(layer.inner)}{projection})"
    if isinstance(layer, Gated):
        return f"Gated({_on_one_line(layer.inner)}, {_on_one_line(layer.gate)})"
    if type(layer).forward is nn.Sequential.forward:
        space = "\n" + " " * indent
        return f"nn.Sequential({''.join(f'{space}    {line},' for line in _lines(layer))}{space})"
    if type(layer) in ARGUMENTS:
        return f"nn.{type(layer).__name__}({ARGUMENTS[type(layer)](layer)})"
    name = f"{type(layer).__name__}({layer.extra_repr()})"
    raise UserError(f"torch.nn has no layer for {name}: --to onnx and --to safetensors need none")


def _on_one_line(sequential: nn.Module) -> str:
    return f"nn.Sequential({', '.join(map(_code, sequential.children()))})"


def _lines(sequential: nn.Module) -> list[str]:
    """The layers, a linear one and what follows it on one line. Equal lines that follow one another become one."""
    groups: list[list[str]] = []
    for layer in sequential.children():
        if not groups or isinstance(layer, nn.Linear | Residual | Gated):
            groups.append([])
        groups[-1].append(_code(layer))
    lines = []
    for line, equal in groupby(groups):
        joined, count = ", ".join(line), len([*equal])
        if count < 3:
            lines += [joined] * count
        elif len(line) == 1:
            lines.append(f"*[{joined} for _ in range({count})]")
        else:
            lines.append(f"*[layer for _ in range({count}) for layer in ({joined})]")
    return lines
