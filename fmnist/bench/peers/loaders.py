"""PyTorch with a DataLoader: over a TensorDataset, or over torchvision's data set as in the tutorials."""

import entrant
import plain
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset


def tutorial(work) -> Dataset:
    """torchvision's FashionMNIST, which decodes and scales an image whenever it is asked for."""
    from torchvision.datasets import FashionMNIST
    from torchvision.transforms import ToTensor

    class Here(FashionMNIST):
        raw_folder = str(work.data)  # the verified files, where they lie

    return Subset(Here(root=work.data, train=True, transform=ToTensor()), range(work.rows))


def main() -> None:
    work = entrant.arguments(dataset=["tensors", "tutorial"])
    torch.set_num_threads(work.threads)
    torch.manual_seed(work.seed)
    dataset = (
        tutorial(work) if work.dataset == "tutorial" else TensorDataset(*map(torch.from_numpy, entrant.load(work)))
    )
    loader = DataLoader(dataset, batch_size=work.batch, shuffle=True)
    model = nn.Sequential(nn.Flatten(), *plain.build("mlp", work.hidden))
    plain.start(model, work.seed)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def train() -> tuple[float, float]:
        total, correct = 0.0, 0
        for x, labels in loader:
            output = model(x)
            loss = loss_fn(output, labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(x)
            correct += (output.argmax(1) == labels).sum().item()
        return total / work.rows, correct / work.rows

    entrant.serve(train, "torch", "torchvision", product=plain.PRODUCT)


if __name__ == "__main__":
    main()
