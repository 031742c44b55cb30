"""A smaller sale that breaks the same guarantee, for reading."""

from collections.abc import Iterator

from simulation.sale import Build, Setting, SimulatedSale, simulate

# Simulations that may be spent on it.
TRIES_MAX = 120


def smallest(sale: SimulatedSale, build: Build) -> SimulatedSale:
    """Return a sale with fewer buyers and fewer faults that breaks the same rule.

    It is tried, step by step, to halve the buyers, to take some away, and to leave one fault out.
    """
    rule = sale.violations[0].rule
    tries = 0
    is_smaller = True
    while is_smaller and tries < TRIES_MAX:
        is_smaller = False
        for setting in _smaller(sale.setting):
            tries += 1
            tried = simulate(setting, build)
            if any(violation.rule == rule for violation in tried.violations):
                sale, is_smaller = tried, True
                break
            if tries >= TRIES_MAX:
                break
    return sale


def _smaller(setting: Setting) -> Iterator[Setting]:
    buyers = setting.buyers
    faults = frozenset(setting.faults.rates)
    fewer = (buyers // 2, buyers * 3 // 4, buyers * 9 // 10, buyers - 1)
    for count in dict.fromkeys(fewer):
        if 0 < count < buyers:
            yield Setting.drawn(setting.seed, count, faults, setting.chosen)
    for fault in setting.faults.rates:
        yield Setting.drawn(setting.seed, buyers, faults - {fault}, setting.chosen)
