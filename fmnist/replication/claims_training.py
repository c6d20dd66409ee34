"""The rules for what the report claims of training, of depth, and of autoencoders. No torch."""

from math import inf

from fmnist.replication.claims_norm import TWO
from fmnist.replication.evidence import (
    ACCURACY,
    EPOCH,
    GAPS,
    Finding,
    Of,
    Part,
    Sample,
    at,
    best,
    exceeds,
    gap,
    gap_of,
    lies,
    line,
    mean,
    of_tag,
    opening,
    over,
    percent,
    spans,
)
from fmnist.replication.systems import FLAT, system
from fmnist.report.comparison import Configuration
from fmnist.report.intervals import rank_correlation
from fmnist.report.plots import Line, Panel, panels
from fmnist.report.tables import Table, spread

ONE = [200]  # the report's one hidden layer


def layers(of: Of) -> Finding:
    """More of everything: hidden layers, iterations, rows."""
    runs = of["claim_layers"]
    named = {"one hidden layer": ONE, "two hidden layers": TWO}
    arms = {(name, split): runs.where(model__hidden=hidden, data__split=split)
            for name, hidden in named.items() for split in (0.8, 0.7)}  # fmt: skip
    test = {key: arm.values("test/accuracy") for key, arm in arms.items()}
    one, two = named
    parts = [exceeds(f"two hidden layers beat one ({split:.0%} of the rows)", test[two, split], test[one, split])
             for split in (0.8, 0.7)]  # fmt: skip
    for name in named:
        late, middle, early = (at(arms[name, 0.8], "validation/accuracy", n // EPOCH) for n in (5000, 1000, 100))
        parts += [exceeds(f"1,000 iterations beat 100 ({name})", middle, early),
                  exceeds(f"5,000 iterations beat 1,000 ({name})", late, middle)]  # fmt: skip
        parts += [exceeds(f"80:20 beats 70:30 on the test images ({name})", test[name, 0.8], test[name, 0.7])]
    curves = [line(f"{name}, {split:.0%} of the rows", arm, ACCURACY, EPOCH) for (name, split), arm in arms.items()]
    picture = panels("claim_layers", [Panel("", "iteration", "validation accuracy (share of images)", curves)],
                     "Validation accuracy by iteration: means and bands over the seeds.")  # fmt: skip
    best_two, best_one, longer, shorter = (
        system(name, of).values("test/accuracy") for name in ("q1_1_2", "q1_1_1", "q1_1_1_5000", "q1_1_1_2000")
    )
    at_size = [exceeds("two hidden layers beat one, full batch, 1,000 iterations", best_two, best_one),
               exceeds("5,000 iterations beat 2,000, one hidden layer, 70:30", longer, shorter)]  # fmt: skip
    return Finding(parts, [picture], at_size=at_size)


def gap_opening(of: Of) -> Finding:
    """When the gap opens, at the report's size and below."""
    runs = of["claim_gap"]
    arms = {f"{limit * 4 // 5:,} training rows": runs.where(data__limit=limit) for limit in (60000, 20000, 6000)}

    def early(name: str, arm: Configuration, measure: str = "accuracy", words: str = "a point") -> Part:
        statement = f"{name}: the {measure} gap is over {words} from iteration 200 to 400 on"
        return lies(statement, opening(arm, measure), 200, 400, "iterations")

    parts = [part for name, arm in arms.items() for part in (early(name, arm), early(name, arm, "loss", "0.05 nats"))]
    rows = [[name, *(spread(over(opening(arm, measure))) for measure in GAPS)] for name, arm in arms.items()]
    header = ["", "accuracy gap over a point, from iteration", "loss gap over 0.05 nats, from iteration (610: later)"]
    table = Table(header, rows)
    shown = [Panel("accuracy gap", "iteration", "share of images",
                   [line(name, arm, gap_of) for name, arm in arms.items()]),
             Panel("loss gap", "iteration", "nats", [line(name, arm, lambda row: gap_of(row, "loss"))
                                                     for name, arm in arms.items()])]  # fmt: skip
    caption = "The gap between training and validation by iteration, one hidden layer, full batch: means and bands."
    at_size = [early("the sound recipe", system("q1_1_1", of)),
               early("the report's, to the letter", system("q1_1_1_letter", of))]  # fmt: skip
    return Finding(parts, [panels("claim_gap", shown, caption, same_y=False)], [table], at_size)


def dropout(of: Of) -> Finding:
    """The gap by p, with and without rescaling."""
    runs = of["claim_dropout"]
    rates = sorted({r.knobs["dropout"] for r in runs.results})
    arms = {(p, scaled): arm for p in rates for scaled in (True, False)
            if (arm := runs.where(dropout=p, dropout_rescale=scaled)).done}  # fmt: skip
    none, half = arms[0.0, True], arms[0.5, True]
    parts = [exceeds(f"p = 0.5 narrows the accuracy gap after {n:,} iterations", gap(none, n // EPOCH),
                     gap(half, n // EPOCH)) for n in (100, 1000, 5000)]  # fmt: skip
    last = {p: gap(arms[p, True], 50) for p in rates}
    order = {seed: -rank_correlation(rates, [last[p][seed] for p in rates])
             for seed in last[0.0] if all(seed in own for own in last.values())}  # fmt: skip
    parts += [lies("the larger p, the narrower the gap after 5,000 iterations (rank correlation over p, negated)",
                   order, 0.9, 1.0, "")]  # fmt: skip
    parts += [exceeds("it also narrows without rescaling (p = 0.5, 5,000 iterations)", gap(none, 50),
                      gap(arms[0.5, False], 50))]  # fmt: skip
    rows = [[f"{p:g}", "yes" if scaled else "no", *(percent(gap(arm, n // EPOCH)) for n in (100, 1000, 5000)),
             percent(at(arm, "validation/accuracy", 50))] for (p, scaled), arm in arms.items()]  # fmt: skip
    header = ["p", "rescaled", *(f"gap after {n:,} (points)" for n in (100, 1000, 5000)), "validation accuracy (%)"]
    after = [(n, True) for n in (100, 1000, 5000)] + [(5000, False)]
    names = {key: f"{key[0]:,} iterations" + ("" if key[1] else ", not rescaled") for key in after}
    own = {key: {p: arm for (p, scaled), arm in arms.items() if scaled == key[1]} for key in after}
    shown = [
        Panel("gap", "dropout p", "share of images", [
            spans(names[key], {p: gap(arm, key[0] // EPOCH) for p, arm in own[key].items()}) for key in after]),
        Panel("validation accuracy", "dropout p", "", [
            spans(names[key], {p: at(arm, "validation/accuracy", key[0] // EPOCH) for p, arm in own[key].items()})
            for key in after]),
    ]  # fmt: skip
    caption = ("Accuracy gap (training rows measured without dropout, less validation rows) and validation accuracy by "
               "p: means with 95 % intervals over the seeds.")  # fmt: skip
    full = of["claim_dropout_report_size"]
    plain = of["confirm"].where(model__hidden=TWO, watch="fit", batch_norm=None, dropout=None)
    dropped = system("q1_2_1", of)
    at_size = [
        exceeds("p = 0.5 narrows the gap, full batch, 100 iterations", gap(full.where(dropout=0.0), 100),
                gap(full.where(dropout=0.5), 100)),
        exceeds("p = 0.5 narrows the gap, full batch, 1,000 iterations", gap(plain, 1000), gap(dropped, 1000)),
    ]  # fmt: skip
    return Finding(parts, [panels("claim_dropout", shown, caption, same_y=False)], [Table(header, rows)], at_size)


def batch_size(of: Of) -> Finding:
    """Accuracy by passes and by seconds, the learning rate tuned for each batch size and each question."""
    runs, timed = of["claim_batch_size"], of["claim_batch_size_time"]
    sizes: list[int | None] = [32, 128, 512, 2048, None]
    names = {size: f"batches of {size:,}" if size else "full batch" for size in sizes}
    rates = sorted({r.knobs["lr"] for r in runs.results})
    cost = {size: mean({r.seed: r.seconds / r.knobs["epochs"] for r in timed.where(batch_size=size).done})
            for size in sizes}  # fmt: skip
    passes = 6
    budget = passes * cost[32]
    epochs = {size: min(int(budget / cost[size]), runs.where(batch_size=size).done[0].knobs["epochs"])
              for size in sizes}  # fmt: skip

    def tuned(size: int | None, epoch: int) -> tuple[Configuration, Sample]:
        arm = best([runs.where(batch_size=size, lr=lr) for lr in rates],
                   lambda arm: mean(at(arm, "validation/accuracy", epoch)))  # fmt: skip
        return arm, at(arm, "validation/accuracy", epoch)

    by_pass = {size: tuned(size, passes) for size in sizes}
    by_time = {size: tuned(size, epochs[size]) for size in sizes}
    parts = []
    for title, found in ((f"{passes} passes", by_pass), (f"{budget:.1f} seconds of training", by_time)):
        parts += [exceeds(f"{names[size]} beat the full batch after {title}", found[size][1], found[None][1])
                  for size in sizes[:-1]]  # fmt: skip
    rows = [[names[size], f"{1000 * cost[size]:.0f}", percent(by_pass[size][1]), f"{by_pass[size][0].knobs['lr']:g}",
             str(epochs[size]), percent(by_time[size][1]), f"{by_time[size][0].knobs['lr']:g}"]
            for size in sizes]  # fmt: skip
    header = ["", "ms a pass", f"accuracy after {passes} passes (%)", "its lr", f"passes in {budget:.1f} s",
              "accuracy then (%)", "its lr"]  # fmt: skip
    words = "validation error (share of images)"
    shown = [
        Panel("by passes", "pass over the training rows", words,
              [line(names[size], by_pass[size][0], _error) for size in sizes], log_y=True),
        Panel("by time", "seconds of training, alone", words,
              [line(names[size], by_time[size][0], _error, cost[size]) for size in sizes], log_y=True),
    ]  # fmt: skip
    caption = (f"Validation error of the one-layer network on 48,000 rows, at the learning rate that is best after "
               f"{passes} passes (left) and after {budget:.1f} seconds (right): means and bands.")  # fmt: skip
    small = of["confirm"].where(batch_size=128)
    middle = of["confirm"].where(batch_size=6000, epochs=100)
    whole = at(system("q1_1_1", of), "validation/accuracy", 100)
    at_size = [
        exceeds(f"{name} beat the full batch after 100 passes, lr 0.001", at(arm, "validation/accuracy", 100), whole)
        for name, arm in (("batches of 128", small), ("batches of 6,000", middle))
    ]
    return Finding(parts, [panels("claim_batch_size", shown, caption)], [Table(header, rows)], at_size)


def _error(row: dict[str, float]) -> float:
    return 1 - row["validation/accuracy"]


SMALL = "skips and small initial weights"  # a tenth of He's


def depth(of: Of) -> Finding:
    """Training error by depth; gradients by layer."""
    depths = sorted({r.knobs["model.depth"] for r in of["claim_depth"].results})
    switches = {"plain": (None, None), "batch norm": (True, None), "skips": (None, True), "both": (True, True)}
    arms = {name: {d: of["claim_depth"].where(model__depth=d, batch_norm=norm, skip=skip) for d in depths}
            for name, (norm, skip) in switches.items()}  # fmt: skip
    arms[SMALL] = {d: of["claim_depth_small"].where(model__depth=d) for d in depths}

    def error(runs: Configuration, epoch: int) -> Sample:
        return {seed: 1 - value for seed, value in at(runs, "train/accuracy", epoch).items()}

    errors = {name: {d: error(runs, 20) for d, runs in own.items()} for name, own in arms.items()}
    parts = [exceeds("56 layers have a smaller training error with skips and small initial weights",
                     errors["plain"][56], errors[SMALL][56])]  # fmt: skip
    for name, cured, words in (("plain", "skips", ""), ("batch norm", "both", " with batch norm")):
        deep, shallow, skipping = errors[name][56], errors[name][20], errors[cured][56]
        parts += [exceeds(f"56 plain layers{words} have a larger training error than 20", deep, shallow),
                  exceeds(f"56 layers{words} have a smaller training error with skips", deep, skipping)]  # fmt: skip
    for name, means in (("skips", "skips"), ("both", "skips and batch norm"), (SMALL, SMALL)):
        few, many = errors[name][20], errors[name][56]
        worse = {seed: 100 * (value - few[seed]) for seed, value in many.items() if seed in few}
        parts += [lies(f"with {means} 56 layers are no worse than 20 (training error, within a point)", worse,
                       -inf, 1.0, "points")]  # fmt: skip
    rows = [[name, *(percent(own[d]) for d in depths)] for name, own in errors.items()]
    table = Table(["training error (%)", *(f"{d} layers" for d in depths)], rows)
    spread_out = [spans(name, by_depth) for name, by_depth in errors.items()]
    shown = [Panel("training error after 2,000 iterations", "layers", "share of images", spread_out, log_x=True)]
    slopes = []
    for name, own in arms.items():
        rows_of = [row for run in own[56].done for row in run.rows]
        tags = sorted({tag for row in rows_of for tag in row if tag.startswith("gradient/")})
        seen = [over(at(own[56], tag, 20)) for tag in tags]
        slopes.append(Line(name, [*range(1, len(tags) + 1)], [i.mean for i in seen]))
    shown += [Panel("gradient norm by layer, 56 layers", "layer, from the input", "norm", slopes, log_y=True)]
    caption = ("Left: training error by depth, means with 95 % intervals. Right: norms of the weights' gradients after "
               "2,000 iterations, means over the seeds.")  # fmt: skip
    size = of["confirm"]
    shallow, deep, skipping, small, normed, both = (
        error(size.where(model__name="deep", model__depth=depth, skip=skip, batch_norm=norm, init_scale=scale), 300)
        for depth, skip, norm, scale in ((20, None, None, 1.0), (56, None, None, 1.0), (56, True, None, 1.0),
                                         (56, True, None, 0.1), (56, None, True, 1.0), (56, True, True, 1.0))
    )  # fmt: skip
    at_size = [
        exceeds("56 plain layers have a larger training error than 20, full batch, 300 iterations", deep, shallow),
        exceeds("skips lower the training error of 56 layers, the same", deep, skipping),
        exceeds("skips and small initial weights lower it, the same", deep, small),
        exceeds("with batch norm skips lower it, the same", normed, both),
    ]
    return Finding(parts, [panels("claim_depth", shown, caption, same_y=False)], [table], at_size)


def autoencoder(of: Of) -> Finding:
    """The ceiling of the accuracy, and the gaps of latent spaces."""
    runs = of["claim_autoencoder"]
    losses = {name: runs.where(loss=name, model__name="autoencoder") for name in ("mae", "mse")}
    mae = losses["mae"]
    share = _of_ceiling(mae)
    halfway, end = (at(mae, "validation/mae", epoch) for epoch in (20, 40))
    flat = {run.seed: abs(rows[40] - rows[20]) * 100 for run in mae.done
            for rows in [{int(row["epoch"]): row["validation/accuracy"] for row in run.rows}]}  # fmt: skip
    plain, variational = (runs.where(model__name=name, loss="bce") for name in ("autoencoder", "vae"))
    parts = [
        lies("its accuracy has reached at least 95 % of the ceiling of its measure", share, 0.95, 1.0, OF_CEILING),
        lies("between passes 20 and 40 it is flat (changes by less than half a point)", flat, 0.0, FLAT, "points"),
        exceeds("while the absolute error still falls", halfway, end, "grey levels of 1,000", 1000.0),
        exceeds("the plain latent space has more gaps than the variational one", plain.values("test/holes"),
                variational.values("test/holes")),
        lies("the variational one has no more than 5 % of gaps", variational.values("test/holes"), 0.0, 0.05,
            "of the space"),
    ]  # fmt: skip
    rows = [[name, percent(arm.values("test/accuracy")), percent(arm.values("test/accuracy_ceiling")),
             spread(over(arm.values("test/mae"))), spread(over(arm.values("test/mse"))),
             percent(arm.values("test/within_16th"))] for name, arm in losses.items()]  # fmt: skip
    header = ["loss", "accuracy (%)", "its ceiling (%)", "MAE", "MSE", "pixels within 1/16 (%)"]
    gaps = [[name, percent(arm.values("test/holes"))] for name, arm in (("plain", plain), ("variational", variational))]
    words = "share of pixels"

    def both(tag: str) -> list[Line]:
        return [line(f"trained by {name}", arm, of_tag(tag)) for name, arm in losses.items()]

    ceiling = line("ceiling", mae, of_tag("validation/accuracy_ceiling"))
    shown = [
        Panel("the report's accuracy", "pass", words, [*both("validation/accuracy"), ceiling]),
        Panel("pixels within 1/16", "pass", words, both("validation/within_16th")),
        Panel("absolute error", "pass", "grey level, 0 to 1", both("validation/mae")),
    ]
    caption = ("The report's autoencoder on validation images: its accuracy against the ceiling of that measure, and "
               "two measures that see improvement.")  # fmt: skip
    at_size = [lies("its accuracy has reached at least 95 % of its ceiling, full batch, 400 iterations",
                    _of_ceiling(system("q1_4_1", of)), 0.95, 1.0, OF_CEILING)]  # fmt: skip
    return Finding(parts, [panels("claim_autoencoder", shown, caption, same_y=False)],
                   [Table(header, rows), Table(["latent space", "without an image (%)"], gaps)], at_size)  # fmt: skip


OF_CEILING = "of the ceiling"


def _of_ceiling(runs: Configuration) -> Sample:
    """An autoencoder's accuracy relative to the largest that the measure allows, by seed."""
    ceiling = runs.values("test/accuracy_ceiling")
    return {seed: value / ceiling[seed] for seed, value in runs.values("test/accuracy").items()}
