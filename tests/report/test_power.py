"""How many seeds it takes to see a difference."""

import math
import random

import pytest
from report.made_up import comparison_of, sweep, write_run
from scipy import stats

from fmnist.report.intervals import needed, pooled, power
from fmnist.report.page import report
from fmnist.report.power import power as table_of


@pytest.mark.parametrize(("effect", "pairs", "seeds"), [
    (0.2, False, 394), (0.5, False, 64), (0.8, False, 26), (0.2, True, 199), (0.5, True, 34), (0.8, True, 15),
])  # fmt: skip
def test_the_numbers_are_those_of_the_tables(effect, pairs, seeds):
    """Cohen 1988, table 2.4.1, for two samples; G*Power for pairs."""
    assert needed(effect * 3, 3, pairs) == seeds
    assert power(effect, 1, seeds, pairs) >= 0.8 > power(effect, 1, seeds - 1, pairs)


def test_power_is_the_share_of_tests_that_find_it():
    draws = random.Random(0)

    def found():
        a, b = ([draws.gauss(mean, 2) for _ in range(12)] for mean in (0, 2.5))
        return stats.ttest_ind(a, b).pvalue < 0.05

    assert sum(found() for _ in range(1000)) / 1000 == pytest.approx(power(2.5, 2, 12, pairs=False), abs=0.04)


def test_ends_are_defined():
    assert needed(1, 1e-9, pairs=True) == 2
    assert needed(1e-9, 1, pairs=False) is None
    assert pooled([[1.0], []])[1] == 0
    assert math.isnan(pooled([[1.0]])[0])
    assert pooled([[1, 3], [10, 14]]) == (pytest.approx(math.sqrt(5)), 2)


def test_the_table_has_the_spread_of_the_better_half(tmp_path):
    values = [({"lr": 1e-3}, [0.90, 0.91, 0.92]), ({"lr": 1e-2}, [0.80, 0.83, 0.83]), ({"lr": 1e-1}, [0.1, 0.5, 0.9])]
    table, words = table_of(comparison_of(sweep(tmp_path, values)))
    assert table.header == ["difference", "validation, other seeds", "validation, the same seeds",
                            "test, other seeds", "test, the same seeds"]  # fmt: skip
    sd = math.sqrt((0.01**2 + 0.03**2 / 3) / 2)
    assert table.rows[1][:2] == ["0.2 points", str(needed(0.002, sd, pairs=False))]
    assert table.rows[1][2] == str(needed(0.002, stats.tstd([-0.10, -0.08, -0.09]), pairs=True))
    assert "validation, other seeds: 0.014 (4 degrees of freedom)" in words
    assert "2 here" in words


def test_losses_differ_in_percent_and_equal_results_need_two_seeds(tmp_path):
    for seed in range(2):
        write_run(tmp_path / str(seed), 20.0, model="autoencoder", seed=seed)
    table, words = table_of(comparison_of(tmp_path))
    assert [row[:2] for row in table.rows] == [["0.1 %", "2"], ["0.2 %", "2"], ["0.5 %", "2"], ["1 %", "2"]]
    assert "in percent of the best mean" in words


def test_with_one_seed_a_sentence_says_that_it_is_not_defined(grid, tmp_path):
    said = table_of(comparison_of(grid))
    assert said.startswith("How many seeds it takes to see a difference cannot be told")
    report([grid], tmp_path)
    assert said in (tmp_path / "index.md").read_text(encoding="utf-8")
