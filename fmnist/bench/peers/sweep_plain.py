"""A sweep as one would write it: Hydra, nn.Linear, torch.optim.Adam, tensors in memory; validation after every epoch.

`python sweep_plain.py -m seed=0,1,2 hidden=[200] batch=128 epochs=3` leaves result.json in each job's folder. The data
lie in data/fashion-mnist of the checkout; data=FOLDER names another folder.
"""

import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig


@dataclass
class Work:
    data: str = str(Path(__file__).resolve().parents[3] / "data" / "fashion-mnist")
    hidden: list[int] = field(default_factory=lambda: [200])
    batch: int = 128
    epochs: int = 3
    seed: int = 0
    rows: int = 48_000
    lr: float = 1e-3


ConfigStore.instance().store(name="work", node=Work)


@hydra.main(version_base="1.3", config_path=None, config_name="work")
def main(work: Work) -> float:
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F

    def part(images: str, labels: str) -> tuple[torch.Tensor, torch.Tensor]:
        x = np.fromfile(Path(work.data) / images, np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 255
        return torch.from_numpy(x), torch.from_numpy(np.fromfile(Path(work.data) / labels, np.uint8, offset=8)).long()

    images, targets = part("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    held_out = work.rows // 4
    x, labels = images[: work.rows], targets[: work.rows]
    validation = images[work.rows : work.rows + held_out], targets[work.rows : work.rows + held_out]
    torch.manual_seed(work.seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([784, *work.hidden]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(work.hidden[-1], 10))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=work.lr)

    @torch.no_grad()
    def accuracy(x: torch.Tensor, labels: torch.Tensor) -> float:
        return float((model(x).argmax(1) == labels).float().mean())

    reached = 0.0
    for _ in range(work.epochs):
        for rows in torch.randperm(len(x)).split(work.batch):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), labels[rows]).backward()
            optimizer.step()
        reached = accuracy(*validation)
    test = accuracy(*part("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"))
    record = {"objective": reached, "metrics": {"test/accuracy": test}}
    (Path(HydraConfig.get().runtime.output_dir) / "result.json").write_text(json.dumps(record), encoding="utf-8")
    return reached


if __name__ == "__main__":
    main()
