"""The report's claims of training, depth and autoencoders as statements about runs. No torch.

Each function gives two tables: the statements that decide, and those on runs at the report's own size.
"""

from math import inf, isnan, nan

from fmnist.replication.evidence import Metric, Of, Runs, Sample, at_best_rate, mean, minus, together
from fmnist.replication.metrics import OPEN, TEST, after, at, each, error, final, generalisation_gap, opening
from fmnist.replication.statements import Exceeds, Lies, Tables
from fmnist.replication.systems import FLAT, ONE, TWO, system
from fmnist.report.intervals import rank_correlation


def layers(of: Of) -> Tables:
    """More of everything: hidden layers, iterations, rows."""
    one, one_70, two, two_70 = (of["claim_layers"].where(model__hidden=hidden, data__split=split)
                                for hidden in (ONE, TWO) for split in (0.8, 0.7))  # fmt: skip
    return [
        Exceeds("two hidden layers beat one (80 % of the rows)", two, one, TEST),
        Exceeds("two hidden layers beat one (70 % of the rows)", two_70, one_70, TEST),
        Exceeds("1,000 iterations beat 100 (one hidden layer)", one, one, after(1000), after(100)),
        Exceeds("5,000 iterations beat 1,000 (one hidden layer)", one, one, after(5000), after(1000)),
        Exceeds("80:20 beats 70:30 on the test images (one hidden layer)", one, one_70, TEST),
        Exceeds("1,000 iterations beat 100 (two hidden layers)", two, two, after(1000), after(100)),
        Exceeds("5,000 iterations beat 1,000 (two hidden layers)", two, two, after(5000), after(1000)),
        Exceeds("80:20 beats 70:30 on the test images (two hidden layers)", two, two_70, TEST),
    ], [
        Exceeds("two hidden layers beat one, full batch, 1,000 iterations",
                system("q1_1_2", of), system("q1_1_1", of), TEST),
        Exceeds("5,000 iterations beat 2,000, full batch, one hidden layer, 70:30",
                system("q1_1_1_5000", of), system("q1_1_1_2000", of), TEST),
    ]  # fmt: skip


def gap_opening(of: Of) -> Tables:
    """When the generalisation gap opens, at the report's size and below."""

    def early(name: str, runs: Runs, measure: str = "accuracy") -> Lies:
        statement = f"{name}: the gap in {measure} opens between iterations 200 and 400"
        return Lies(statement, runs, opening(measure), 200, 400, "iterations")

    return [
        early(f"{limit * 4 // 5:,} training rows", runs, measure)
        for limit, runs in reversed(of["claim_gap"].by("data.limit").items()) for measure in OPEN
    ], [
        early("the sound recipe", system("q1_1_1", of)),
        early("the report's recipe to the letter", system("q1_1_1_letter", of)),
    ]  # fmt: skip


def dropout(of: Of) -> Tables:
    """The generalisation gap by p, with and without rescaling."""
    scaled, unscaled = (of["claim_dropout"].where(dropout_rescale=rescale) for rescale in (True, False))
    none, half = scaled.where(dropout=0.0), scaled.where(dropout=0.5)
    short, full = of["claim_dropout_report_size"], of["confirm"].where(model__hidden=TWO, watch="fit", batch_norm=None)
    gap_100, gap_1000, gap_5000 = (after(n, generalisation_gap) for n in (100, 1000, 5000))

    def order(runs: Runs) -> Sample:
        by_p = {p: gap_5000(own) for p, own in runs.by("dropout").items()}
        return {seed: -rank_correlation([*by_p], own) for seed, own in together([*by_p.values()]).items()}

    return [
        Exceeds("p = 0.5 narrows the gap in accuracy after 100 iterations", none, half, gap_100),
        Exceeds("p = 0.5 narrows the gap in accuracy after 1,000 iterations", none, half, gap_1000),
        Exceeds("p = 0.5 narrows the gap in accuracy after 5,000 iterations", none, half, gap_5000),
        Lies("the larger p, the narrower the gap after 5,000 iterations (rank correlation over p, negated)",
             scaled, order, 0.9, 1.0),
        Exceeds("p = 0.5 without rescaling narrows the gap after 5,000 iterations",
                none, unscaled.where(dropout=0.5), gap_5000),
    ], [
        Exceeds("p = 0.5 narrows the gap, full batch, 100 iterations",
                short.where(dropout=0.0), short.where(dropout=0.5), at(100, generalisation_gap)),
        Exceeds("p = 0.5 narrows the gap, full batch, 1,000 iterations",
                full.where(dropout=None), system("q1_2_1", of), at(1000, generalisation_gap)),
    ]  # fmt: skip


PASSES = 6  # over the training rows, for the comparison of batch sizes


def passes_in_time(of: Of) -> tuple[dict[int | None, float], dict[int | None, int]]:
    """By batch size (None: the full batch) the seconds a pass, of runs that had the machine to themselves; and how many
    passes fit into the seconds of six passes in batches of 32, 0 where that is not known."""
    runs, timed = (of[study].by("batch_size") for study in ("claim_batch_size", "claim_batch_size_time"))
    pace = each(lambda run: run.seconds / run.knobs["epochs"])
    cost = {size: mean(pace(timed.get(size, Runs()))) for size in runs}
    fit = {size: PASSES * cost[32] / cost[size] for size in runs}
    most = {size: min(run.knobs["epochs"] for run in own.counted) for size, own in runs.items()}
    return cost, {size: 0 if isnan(fit[size]) else min(int(fit[size]), most[size]) for size in runs}


def batch_size(of: Of) -> Tables:
    """Accuracy by passes and by seconds, the learning rate tuned for each batch size and each question."""
    sizes, (cost, in_time), confirm = of["claim_batch_size"].by("batch_size"), passes_in_time(of), of["confirm"]
    return [
        Exceeds(f"batches of {size:,} beat the full batch after {words}", runs, sizes[None],
                at_best_rate(at(passes[size])), at_best_rate(at(passes[None])), note=note)
        for words, note, passes in (
            ("6 passes", "", dict.fromkeys(sizes, PASSES)),
            ("as many seconds as 6 passes in batches of 32", f"after {PASSES * cost[32]:.1f} seconds: ", in_time))
        for size, runs in sizes.items() if size
    ], [
        Exceeds("batches of 128 beat the full batch after 100 passes, lr 0.001",
                confirm.where(batch_size=128), system("q1_1_1", of), at(100)),
        Exceeds("batches of 6,000 beat the full batch after 100 passes, lr 0.001",
                confirm.where(batch_size=6000, epochs=100), system("q1_1_1", of), at(100)),
    ]  # fmt: skip


SWITCHES = {"plain": (None, None), "batch norm": (True, None), "skips": (None, True), "both": (True, True)}
SMALL = "skips and small initial weights"  # a tenth of He's


def by_switches(runs: Runs) -> dict[str, Runs]:
    """The runs of a study of depth, by what is switched on."""
    return {name: runs.where(batch_norm=norm, skip=skip) for name, (norm, skip) in SWITCHES.items()}


def depth(of: Of) -> Tables:
    """Training error by depth."""
    runs, small = by_switches(of["claim_depth"]), of["claim_depth_small"]
    plain, norm, skips, both, small_56 = (own.where(model__depth=56) for own in (*runs.values(), small))
    plain_20, norm_20 = (runs[name].where(model__depth=20) for name in ("plain", "batch norm"))
    last, last_full = at(20, error), at(300, error)

    def excess(runs: Runs) -> Sample:
        added = minus(last(runs.where(model__depth=56)), last(runs.where(model__depth=20)))
        return {seed: 100 * value for seed, value in added.items()}

    full = by_switches(of["confirm"].where(model__depth=56, init_scale=1.0))
    full_20, full_small = (of["confirm"].where(model__depth=n, init_scale=scale, batch_norm=None, skip=skip)
                           for n, scale, skip in ((20, 1.0, None), (56, 0.1, True)))  # fmt: skip
    no_worse = "56 layers are no worse than 20 (training error, within a point)"
    return [
        Exceeds("56 layers have a smaller training error with skips and small initial weights", plain, small_56, last),
        Exceeds("56 plain layers have a larger training error than 20", plain, plain_20, last),
        Exceeds("56 layers have a smaller training error with skips", plain, skips, last),
        Exceeds("56 plain layers with batch norm have a larger training error than 20", norm, norm_20, last),
        Exceeds("56 layers with batch norm have a smaller training error with skips", norm, both, last),
        Lies(f"with skips {no_worse}", runs["skips"], excess, -inf, 1.0, "points"),
        Lies(f"with skips and batch norm {no_worse}", runs["both"], excess, -inf, 1.0, "points"),
        Lies(f"with skips and small initial weights {no_worse}", small, excess, -inf, 1.0, "points"),
    ], [
        Exceeds("56 plain layers have a larger training error than 20, full batch, 300 iterations",
                full["plain"], full_20, last_full),
        Exceeds("skips lower the training error of 56 layers, full batch, 300 iterations",
                full["plain"], full["skips"], last_full),
        Exceeds("skips and small initial weights lower the training error of 56 layers, full batch, 300 iterations",
                full["plain"], full_small, last_full),
        Exceeds("with batch norm, skips lower the training error of 56 layers, full batch, 300 iterations",
                full["batch norm"], full["both"], last_full),
    ]  # fmt: skip


def autoencoder(of: Of) -> Tables:
    """The ceiling of the accuracy, and the holes of latent spaces."""
    runs, holes = of["claim_autoencoder"], final("test/holes")
    mae = runs.where(loss="mae", model__name="autoencoder")
    plain, variational = (runs.where(loss="bce", model__name=name) for name in ("autoencoder", "vae"))
    of_ceiling = each(lambda run: run.metrics.get("test/accuracy", nan) / run.metrics.get("test/accuracy_ceiling", nan))

    def moved(runs: Runs) -> Sample:
        return {seed: 100 * abs(value) for seed, value in minus(at(40)(runs), at(20)(runs)).items()}

    def absolute(epoch: int) -> Metric:  # in grey levels of 1,000
        return at(epoch, lambda row: 1000 * row.get("validation/mae", nan))

    return [
        Lies("the accuracy reaches 95 % of the ceiling of its measure", mae, of_ceiling, 0.95, 1.0, "of the ceiling"),
        Lies("the accuracy changes by less than half a point from pass 20 to 40", mae, moved, 0.0, FLAT, "points"),
        Exceeds("the absolute error falls from pass 20 to 40", mae, mae, absolute(20), absolute(40),
                "grey levels of 1,000"),
        Exceeds("the plain latent space has more holes than the variational one", plain, variational, holes),
        Lies("holes are at most 5 % of the variational latent space", variational, holes, 0.0, 0.05, "of the space"),
    ], [
        Lies("the accuracy reaches 95 % of its ceiling, full batch, 400 iterations", system("q1_4_1", of), of_ceiling,
             0.95, 1.0, "of the ceiling"),
    ]  # fmt: skip
