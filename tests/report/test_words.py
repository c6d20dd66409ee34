"""Knobs, values and names in words, and in order."""

from fmnist.report.words import counted, in_order, metric_in_words, natural, sentence, value_in_words


def test_values_have_one_way_into_words():
    values = {None: "none", True: "true", 1e-3: "0.001", 1e30: "1e+30", 60: "60", "adam": "adam"}
    assert [value_in_words(value) for value in values] == [*values.values()]
    assert value_in_words([20, 12]) == "[20,12]"
    assert value_in_words([0.9, None]) == "[0.9,none]"
    assert value_in_words(None, "batch_size") == "full"


def test_values_are_in_order_whatever_they_are():
    assert in_order([None, 64, 8], "batch_size") == [8, 64, None]
    assert in_order([0.5, None, 0.1], "dropout") == [None, 0.1, 0.5]
    assert in_order([[64], [16, 8], [16]]) == [[16], [16, 8], [64]]
    assert in_order(["b", [None], 2, ["a"], None, "a", [1]]) == [None, 2, [None], [1], ["a"], "a", "b"]


def test_numbers_in_names_count_as_numbers():
    assert sorted(map(str, range(12)), key=natural) == list(map(str, range(12)))


def test_one_thing_is_one_and_a_sentence_changes_its_first_letter_alone():
    assert [counted(number, "run") for number in (0, 1, 2, 1234)] == ["0 runs", "1 run", "2 runs", "1,234 runs"]
    assert [sentence(text) for text in ("the ELBO", "KL divergence", "é", "")] == ["The ELBO", "KL divergence", "É", ""]


def test_the_loss_of_any_variational_autoencoder_is_its_bound():
    for model in ("vae", "vamp", "two_levels"):
        assert metric_in_words("loss", {"model.name": model, "loss": "bce"}).startswith("-ELBO")
    assert metric_in_words("loss", {"model.name": "autoencoder", "loss": "bce"}).startswith("binary cross-entropy")
    assert metric_in_words("loss", {"loss": "bce"}).startswith("binary cross-entropy")
