"""The report's claims, the studies that test each, and what was found. No torch.

A rule takes the finished runs by study and says what they show: it never looks at which seeds they are, so the same
rule judges seeds that had no part in making a verdict.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fmnist.replication.claims_norm import norm_dropout, norm_init, norm_speed, smoothness
from fmnist.replication.claims_training import autoencoder, batch_size, depth, dropout, gap_opening, layers
from fmnist.replication.evidence import Finding, Of


@dataclass(frozen=True)
class Claim:
    """says: the report's words in short; studies: in sweep/study/; judge: what their runs show; reading: that in words,
    true as long as the parts hold by this pattern (see Finding); confirmed_by: studies at the report's own size, shown
    beside it."""

    title: str
    says: str
    studies: tuple[str, ...]
    judge: Callable[[Of], Finding]
    pattern: str
    reading: str
    confirmed_by: tuple[str, ...] = ()


CLAIMS = {
    "layers": Claim(
        "Layers, iterations, rows",
        "More layers and more iterations raise accuracy.",
        ("claim_layers",), layers, "nnyynyyn/nn",
        "More iterations do on 12,800 rows, the later ones less; at the report's own size 5,000 fall short of 2,000. A "
        "second hidden layer, or 80:20 instead of 70:30, makes no difference that the seeds can show."),
    "gap": Claim(
        "The gap",
        "The gap between training and validation opens after about 300 iterations.",
        ("claim_gap",), gap_opening, "nynnnn/nn",
        "At the report's size the gap in loss does, the gap in accuracy opens sooner, less so with the report's recipe "
        "to the letter. It depends on the rows: the fewer there are, the sooner both open."),
    "dropout": Claim(
        "Dropout",
        "Dropout narrows the gap between training and validation.",
        ("claim_dropout",), dropout, "yyyyy/yy",
        "It does, with and without rescaling: the larger p the more.",
        ("claim_dropout_report_size",)),
    "batch_size": Claim(
        "Mini-batches",
        "Mini-batches get further per pass than the full batch.",
        ("claim_batch_size", "claim_batch_size_time"), batch_size, "yyyyyyyy/yy",
        "Per pass and per second alike, each at its own best learning rate: the full batch makes one update a pass."),
    "norm_speed": Claim(
        "Batch norm: speed",
        "Batch normalisation trains faster and bears larger learning rates.",
        ("claim_norm_speed", "claim_norm_inputs"), norm_speed, "ynyynyy/yy",
        "Faster in training accuracy; in validation accuracy with full batches at the report's own size, but not with "
        "mini-batches of 12,800 rows, which it overfits before it gets there. It bears a rate at which the plain "
        "networks fail."),
    "norm_init": Claim(
        "Batch norm: initial weights",
        "Batch normalisation makes initial weights matter less.",
        ("claim_norm_init",), norm_init, "yy/y",
        "Less, not little: scales far from He's still cost accuracy."),
    "norm_dropout": Claim(
        "Batch norm and dropout",
        "Batch normalisation regularises a little, and works best with dropout.",
        ("claim_norm_dropout",), norm_dropout, "nnnyy/nn",
        "It widens the gap and costs accuracy, which dropout gives back: in this sense alone it works best with "
        "dropout, to which it adds nothing, on 12,800 rows and at the report's own size alike."),
    "depth": Claim(
        "Depth and skips",
        "Deep plain networks get worse on their own training rows; skip connections cure it.",
        ("claim_depth", "claim_depth_small"), depth, "yynyynnn/ynny",
        "They do get worse. Skips cure most of it where what the blocks add is kept small, by batch normalisation or "
        "by small initial weights; at He's scale the sum grows from block to block, gradients explode, and skips alone "
        "make it worse. At the report's own size they need batch normalisation: small initial weights are not enough."),
    "surface": Claim(
        "Batch norm: the loss surface",
        "The loss surface is smoother with batch normalisation.",
        ("claim_surface",), smoothness, "nyynyyyyyyyy/yyy",
        "Gradients change less along the step in both networks; the loss itself varies less in the deep one, and in "
        "the other only at the report's own size."),
    "autoencoder": Claim(
        "Autoencoders",
        "The report's 50 % is the ceiling of its measure; a variational autoencoder's latent space has no gaps where a "
        "plain one's has.",
        ("claim_autoencoder",), autoencoder, "yyyyn/y",
        "It is the ceiling, reached while the error still falls. The variational latent space has fewer gaps, not "
        "none."),
}  # fmt: skip
