"""Lightning: a LightningModule, a DataLoader over a TensorDataset, a Trainer without logger and checkpoints."""

import entrant
import lightning
import plain
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Classifier(lightning.LightningModule):
    def __init__(self, hidden: list[int], seed: int) -> None:
        super().__init__()
        self.model = plain.build("mlp", hidden)
        plain.start(self.model, seed)

    def training_step(self, batch, index):
        x, labels = batch
        output = self.model(x)
        loss = F.cross_entropy(output, labels)
        accuracy = (output.argmax(1) == labels).float().mean()
        self.log_dict({"loss": loss, "accuracy": accuracy}, on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Served(lightning.Callback):
    """Each epoch is a turn."""

    def __init__(self) -> None:
        self.turns = entrant.Turns("lightning", "torch", product=plain.PRODUCT)

    def on_train_epoch_start(self, trainer, module):
        self.turns.wait()

    def on_train_epoch_end(self, trainer, module):
        self.turns.answer(*(trainer.callback_metrics[name].item() for name in ("loss", "accuracy")))


def main() -> None:
    work = entrant.arguments()
    torch.set_num_threads(work.threads)
    lightning.seed_everything(work.seed)
    dataset = TensorDataset(*map(torch.from_numpy, entrant.load(work)))
    loader = DataLoader(dataset, batch_size=work.batch, shuffle=True)
    model = Classifier(work.hidden, work.seed)
    trainer = lightning.Trainer(
        max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Served()],
    )  # fmt: skip
    trainer.fit(model, loader)


if __name__ == "__main__":
    main()
