"""The default set, the slow set and the exhaustive set."""

import doctest

import pytest

from helpers import tiers

CASES = [f"tests/test_x.py::test_{name}[{i}]" for name in ("quick", "built") for i in range(60)]


class Case:
    """As much of a collected test as marking it takes."""

    def __init__(self, nodeid, *marks):
        self.nodeid, self.marks = nodeid, set(marks)

    def get_closest_marker(self, name):
        return name if name in self.marks else None

    def add_marker(self, mark):
        self.marks.add(mark.name)


def divided(*marks):
    cases = [Case(name, *marks) for name in CASES]
    tiers.divide(cases)
    return cases


def marked(cases, mark):
    return [case.nodeid for case in cases if mark in case.marks]


def test_examples():
    assert doctest.testmod(tiers).failed == 0


def test_tests_without_keras_stay_in_the_default_set():
    assert marked(divided(), "slow") == []


def test_the_default_set_has_a_sample_of_the_cases_of_each_test():
    cases = divided("keras")
    assert 15 / 16 * 0.85 < len(marked(cases, "slow")) / len(cases) < 1
    assert {CASES[0], CASES[60]} & {*marked(cases, "slow")} == set()
    assert marked(divided("keras"), "slow") == marked(cases, "slow")
    assert marked(cases, "exhaustive") == []


def test_the_slow_set_has_a_sample_of_the_cases_of_slow_tests():
    cases = divided("keras", "slow")
    assert 11 / 12 * 0.85 < len(marked(cases, "exhaustive")) / len(cases) < 1
    assert {CASES[0], CASES[60]} & {*marked(cases, "exhaustive")} == set()


def test_names_of_cases_are_the_same_in_all_processes():
    with pytest.raises(pytest.UsageError, match="named by an address"):
        tiers.divide([Case("tests/test_x.py::test_quick[<function f at 0x7fb2b19ac720>]")])


def test_exhaustive_tests_stay_exhaustive():
    assert len(marked(divided("keras", "exhaustive"), "exhaustive")) == len(CASES)
