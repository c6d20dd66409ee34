"""The report's claims, the studies that test each, and what was found. No torch.

The runs of its studies judge a claim's statements, whichever seeds they have: new seeds, which had no part in making a
verdict, judge them in the same way.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass

from fmnist.replication import claims_norm, claims_pictures, claims_training
from fmnist.replication.claims_pictures import Shown
from fmnist.replication.evidence import Of
from fmnist.replication.statements import Finding, Tables, judge


@dataclass(frozen=True)
class Claim:
    """A claim of the report.

    says: the report's words in short. studies: those that decide, in sweep/study/; confirmed_by: others, at the
    report's own size. statements: what is judged. shown: pictures and tables. reading: what was found, in words; the
    pages show it as long as exactly the statements in `holds` hold.
    """

    title: str
    says: str
    studies: tuple[str, ...]
    statements: Callable[[Of], Tables]
    shown: Callable[[Of], Shown]
    holds: Set[str]
    reading: str
    confirmed_by: tuple[str, ...] = ()

    def judge(self, of: Of) -> Finding:
        """What these runs say of it."""
        return judge(self.statements(of))


CLAIMS = {
    "layers": Claim(
        "Layers, iterations, rows",
        "More layers and more iterations raise accuracy.",
        ("claim_layers",), claims_training.layers, claims_pictures.layers,
        holds={
            "1,000 iterations beat 100 (one hidden layer)",
            "5,000 iterations beat 1,000 (one hidden layer)",
            "1,000 iterations beat 100 (two hidden layers)",
            "5,000 iterations beat 1,000 (two hidden layers)",
        },
        reading="More iterations do, on 12,800 rows; the later ones add less. At the report's own size 5,000 "
                "iterations fall short of 2,000. A second hidden layer, or 80:20 instead of 70:30, makes no difference"
                " that the seeds can show.",
    ),
    "gap": Claim(
        "The generalisation gap",
        "The gap between training and validation opens after about 300 iterations.",
        ("claim_gap",), claims_training.gap_opening, claims_pictures.gap_opening,
        holds={
            "48,000 training rows: the gap in loss opens between iterations 200 and 400",
        },
        reading="At the report's size the gap in loss does. The gap in accuracy opens sooner; with the report's recipe"
                " to the letter it opens later than with the sound recipe. With fewer rows both open sooner.",
    ),
    "dropout": Claim(
        "Dropout",
        "Dropout narrows the gap between training and validation.",
        ("claim_dropout",), claims_training.dropout, claims_pictures.dropout,
        holds={
            "p = 0.5 narrows the gap in accuracy after 100 iterations",
            "p = 0.5 narrows the gap in accuracy after 1,000 iterations",
            "p = 0.5 narrows the gap in accuracy after 5,000 iterations",
            "the larger p, the narrower the gap after 5,000 iterations (rank correlation over p, negated)",
            "p = 0.5 without rescaling narrows the gap after 5,000 iterations",
            "p = 0.5 narrows the gap, full batch, 100 iterations",
            "p = 0.5 narrows the gap, full batch, 1,000 iterations",
        },
        reading="It does, with and without rescaling. The larger p, the narrower the gap.",
        confirmed_by=("claim_dropout_report_size",),
    ),
    "batch_size": Claim(
        "Mini-batches",
        "Mini-batches get further per pass than the full batch.",
        ("claim_batch_size", "claim_batch_size_time"), claims_training.batch_size, claims_pictures.batch_size,
        holds={
            "batches of 32 beat the full batch after 6 passes",
            "batches of 128 beat the full batch after 6 passes",
            "batches of 512 beat the full batch after 6 passes",
            "batches of 2,048 beat the full batch after 6 passes",
            "batches of 32 beat the full batch after as many seconds as 6 passes in batches of 32",
            "batches of 128 beat the full batch after as many seconds as 6 passes in batches of 32",
            "batches of 512 beat the full batch after as many seconds as 6 passes in batches of 32",
            "batches of 2,048 beat the full batch after as many seconds as 6 passes in batches of 32",
            "batches of 128 beat the full batch after 100 passes, lr 0.001",
            "batches of 6,000 beat the full batch after 100 passes, lr 0.001",
        },
        reading="They do, per pass and per second, each at its own best learning rate. The full batch makes only one "
                "update a pass.",
    ),
    "norm_speed": Claim(
        "Batch norm: speed",
        "Batch normalisation trains faster and bears larger learning rates.",
        ("claim_norm_speed", "claim_norm_inputs"), claims_norm.norm_speed, claims_pictures.norm_speed,
        holds={
            "batch norm takes fewer iterations to the plain network's training accuracy (784-300-100-10, ReLU)",
            "with batch norm the largest learning rate costs less accuracy (784-300-100-10, ReLU)",
            "batch norm takes fewer iterations to the plain network's training accuracy (3 x 100 sigmoids)",
            "with batch norm the largest learning rate costs less accuracy (3 x 100 sigmoids)",
            "with batch norm the inputs of the last sigmoid move less (medians, from pass to pass, in widths of their "
            "distribution)",
            "batch norm takes fewer iterations to the plain network's training accuracy, full batch, lr 0.001",
            "batch norm takes fewer iterations to the plain network's validation accuracy, full batch, lr 0.001",
        },
        reading="It trains faster in training accuracy. In validation accuracy it does so with full batches at the "
                "report's own size, but not with mini-batches of 12,800 rows: there it overfits before it gets as far "
                "as the plain network. It bears a learning rate at which the plain networks fail.",
    ),
    "norm_init": Claim(
        "Batch norm: initial weights",
        "Batch normalisation makes initial weights matter less.",
        ("claim_norm_init",), claims_norm.norm_init, claims_pictures.norm_init,
        holds={
            "with batch norm accuracy differs less over four decades of initial scale (lr 0.001)",
            "with batch norm accuracy differs less over four decades of initial scale (lr 0.01)",
            "with batch norm accuracy differs less between scales of 0.03 and 30, full batch, 1,000 iterations",
        },
        reading="They matter less, but not little: scales far from He's still cost accuracy.",
    ),
    "norm_dropout": Claim(
        "Batch norm and dropout",
        "Batch normalisation regularises a little, and works best with dropout.",
        ("claim_norm_dropout",), claims_norm.norm_dropout, claims_pictures.norm_dropout,
        holds={
            "with batch norm, dropout raises validation accuracy",
            "batch norm gains more with dropout than without (interaction)",
        },
        reading="Batch normalisation alone widens the gap and costs accuracy; dropout gives the accuracy back. Only in"
                " this sense does it work best with dropout: to dropout it adds nothing, neither on 12,800 rows nor at"
                " the report's own size.",
    ),
    "depth": Claim(
        "Depth and skips",
        "Deep plain networks get worse on their own training rows; skip connections cure it.",
        ("claim_depth", "claim_depth_small"), claims_training.depth, claims_pictures.depth,
        holds={
            "56 layers have a smaller training error with skips and small initial weights",
            "56 plain layers have a larger training error than 20",
            "56 plain layers with batch norm have a larger training error than 20",
            "56 layers with batch norm have a smaller training error with skips",
            "56 plain layers have a larger training error than 20, full batch, 300 iterations",
            "with batch norm, skips lower the training error of 56 layers, full batch, 300 iterations",
        },
        reading="Deep plain networks do get worse. Skips cure most of it where the blocks add little, by batch "
                "normalisation or by small initial weights. At He's scale the sum grows from block to block, gradients"
                " explode, and skips alone make it worse. At the report's own size skips need batch normalisation: "
                "small initial weights are not enough.",
    ),
    "surface": Claim(
        "Batch norm: the loss surface",
        "The loss surface is smoother with batch normalisation.",
        ("claim_surface",), claims_norm.smoothness, claims_pictures.smoothness,
        holds={
            "batch norm has a smaller change of the gradient (784-300-100-10, lr 0.01)",
            "batch norm has a smaller effective beta-smoothness (784-300-100-10, lr 0.01)",
            "batch norm has a smaller change of the gradient (784-300-100-10, lr 0.03)",
            "batch norm has a smaller effective beta-smoothness (784-300-100-10, lr 0.03)",
            "batch norm has a smaller range of the loss along the gradient (ten layers of 100, lr 0.01)",
            "batch norm has a smaller change of the gradient (ten layers of 100, lr 0.01)",
            "batch norm has a smaller effective beta-smoothness (ten layers of 100, lr 0.01)",
            "batch norm has a smaller range of the loss along the gradient (ten layers of 100, lr 0.03)",
            "batch norm has a smaller change of the gradient (ten layers of 100, lr 0.03)",
            "batch norm has a smaller effective beta-smoothness (ten layers of 100, lr 0.03)",
            "batch norm has a smaller range of the loss along the gradient, full batch, lr 0.1",
            "batch norm has a smaller change of the gradient, full batch, lr 0.1",
            "batch norm has a smaller effective beta-smoothness, full batch, lr 0.1",
        },
        reading="Gradients change less along the step in both networks. The loss itself varies less in the deep one; "
                "in the other it does so only at the report's own size.",
    ),
    "autoencoder": Claim(
        "Autoencoders",
        "The report's 50 % is the ceiling of its measure; a variational autoencoder's latent space has no holes where "
        "a plain one's has.",
        ("claim_autoencoder",), claims_training.autoencoder, claims_pictures.autoencoder,
        holds={
            "the accuracy reaches 95 % of the ceiling of its measure",
            "the accuracy changes by less than half a point from pass 20 to 40",
            "the absolute error falls from pass 20 to 40",
            "the plain latent space has more holes than the variational one",
            "the accuracy reaches 95 % of its ceiling, full batch, 400 iterations",
        },
        reading="It is the ceiling, and the accuracy reaches it while the error still falls. The variational latent "
                "space has fewer holes, not none.",
    ),
}  # fmt: skip
