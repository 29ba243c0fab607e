"""The examples that compare criteria, and that follow the paper of APoZ, with settings that take seconds."""

import gzip
import json
import re

import numpy as np
import pytest

from helpers.trials import example, run_apart, typer

pytestmark = pytest.mark.keras


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    data = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def folder(tmp_path):
    """A folder with 250 digits for training, not packed, and 100 for tests, packed, as idx files."""
    digits = example("digits").sample_of_mnist()
    order = np.random.default_rng(0).permutation(5000)
    for name, ending, part in (("train", "", digits[order[:250]]), ("t10k", ".gz", digits[order[-100:]])):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte{ending}", (255 * part.images[..., 0]).round())
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte{ending}", part.labels)
    return tmp_path


def test_idx_files_are_read_packed_or_not(folder):
    train, test = example("digits").read_folder(folder)
    digits, order = example("digits").sample_of_mnist(), np.random.default_rng(0).permutation(5000)
    np.testing.assert_array_equal(train.images, digits.images[order[:250]])
    np.testing.assert_array_equal(test.labels, digits.labels[order[-100:]])


def test_a_folder_without_idx_files_is_named(tmp_path):
    with pytest.raises(typer.BadParameter, match="has no file train-images-idx3-ubyte or"):
        example("digits").read_folder(tmp_path)


@pytest.fixture(scope="module")
def comparison():
    return example("compare_criteria")


def entries(comparison, criterion, *accuracies):
    return [comparison.Entry(criterion, seed, (0.1, 0.5, value), 0.5, 0.5) for seed, value in enumerate(accuracies)]


def test_criteria_are_compared_with_the_baseline_seed_by_seed(comparison):
    log = [
        *entries(comparison, "random", 0.79, 0.80, 0.81),
        *entries(comparison, "best", 0.83, 0.83, 0.86),
        *entries(comparison, "close", 0.82, 0.79, 0.82),
        *entries(comparison, "worst", 0.60, 0.61, 0.62),
    ]
    results = comparison.means_and_spreads(log)
    assert list(results) == ["best", "close", "random", "worst"]
    mean, spread = results["random"]
    np.testing.assert_allclose((mean, spread), [(10, 50, 80), (0, 0, 1)], atol=1e-12)
    differences = comparison.over_baseline(log[::-1])
    np.testing.assert_allclose(differences["best"], (4, 1))
    np.testing.assert_allclose(differences["close"], (1, 2))
    np.testing.assert_allclose(differences["worst"], (-19, 0), atol=1e-12)
    settings = comparison.Settings("digits", 0.5, 1, 1, 1, 1, 1, 0, "global", (4,))
    cells = dict(zip(*(list(column.cells) for column in comparison.table_of(log, settings).columns[::4]), strict=True))
    assert cells == {"best": "+4.0 ± 1.0 *", "close": "+1.0 ± 2.0  ", "random": "", "worst": "-19.0 ± 0.0 *"}


@pytest.mark.exhaustive
def test_criteria_are_compared_and_an_interrupted_run_continues(comparison, folder):
    out = folder / "made"
    options = ("--quick", "--data-dir", folder, "--out", out, "--criterion", "magnitude")
    run_apart("compare_criteria", *options)
    first = json.loads((out / "log.json").read_text())["entries"]
    assert [(entry["seed"], entry["criterion"]) for entry in first] == [
        (seed, name) for seed in (0, 1) for name in ("not pruned", "random", "magnitude")
    ]
    rows, output = run_apart("compare_criteria", *options, "--criterion", "thinet", "--criterion", "reconstructed")
    names = {"not pruned", "random", "magnitude", "thinet", "reconstructed"}
    assert {row[0] for row in rows} == names
    assert len(re.findall("^seed", output, re.MULTILINE)) == 4
    log = json.loads((out / "log.json").read_text())["entries"]
    assert log[:6] == first
    assert len(log) == 10
    for entry in log:
        whole = entry["criterion"] == "not pruned"
        assert entry["macs"] == 1 if whole else 0.4 < entry["macs"] <= 0.5
        assert len(entry["accuracy"]) == 3
    assert (out / "criteria.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(typer.BadParameter, match="the log of other settings"):
        comparison.read_log(out / "log.json", comparison.Settings("other", 0.5, 1, 1, 1, 1, 1, 0, "global", (4,)))


@pytest.fixture
def trimming():
    return example("network_trimming")


def test_the_compression_of_the_networks_of_the_paper_follows_from_their_widths(trimming):
    assert trimming.parameters_of("20-50-500-10") == 431_080
    compressions = re.findall(r"\((\S+)\)", trimming.networks_of_the_paper())
    assert compressions == ["1.00", "1.41", "2.23", "3.11", "3.85"]


@pytest.mark.slow
def test_lenet_is_trimmed_in_rounds(trimming, folder):
    few = ("--rounds", 1, "--epochs", 1, "--tune-epochs", 1, "--data-dir", folder, "--out", folder / "made")
    rows, output = run_apart("network_trimming", *few)
    assert [row[:3] for row in rows[:1]] == [["0", "20-50-500-10", "1.00"]]
    assert [cell == "-" for cell in rows[0][4:7]] == [True, False, True]
    widths = [int(width) for width in rows[1][1].split("-")]
    assert (widths[0], widths[3]) == (20, 10)
    assert widths[1] <= 50
    assert widths[2] < 500
    assert rows[1][2] == f"{431_080 / trimming.parameters_of(rows[1][1]):.2f}"
    assert "-" not in rows[1][4:7]
    assert "20-24-252-10 (3.85)" in output
    assert (folder / "made" / "trimming.png").read_bytes().startswith(b"\x89PNG")
