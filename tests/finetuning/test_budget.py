"""What fits a budget: whole encoders, in the order asked for, with nothing dropped in silence."""

from __future__ import annotations

import pytest

from embedcache.errors import BudgetError, BudgetTooSmallError
from embedcache.finetuning.budget import Estimate, affordable, seconds_of

HOUR = 3600.0


def folds(encoder: str, hours: float) -> list[Estimate]:
    """Two units of an encoder, of so many hours together."""
    return [
        Estimate(
            encoder=encoder,
            training=f"fold {fold}",
            trainings=1,
            images=100,
            seconds=hours * HOUR / 2,
        )
        for fold in range(2)
    ]


ASKED = [*folds("large", 30), *folds("middle", 8), *folds("small", 3), *folds("tiny", 2)]


@pytest.mark.parametrize(
    ("budget", "seconds"), [("90m", 5400), ("12h", 43200), ("1.5d", 129600), (" 2 h ", 7200)]
)
def test_a_budget_is_minutes_hours_or_days(budget: str, seconds: float) -> None:
    assert seconds_of(budget) == seconds


@pytest.mark.parametrize("budget", ["12", "h", "0h", "-1h", "12 hours", ""])
def test_anything_else_is_no_budget(budget: str) -> None:
    with pytest.raises(BudgetError, match="12h"):
        seconds_of(budget)


def test_an_encoder_is_taken_whole_if_it_fits_beside_those_asked_for_before_it() -> None:
    taken, dropped = affordable(ASKED, 12 * HOUR, devices=1)
    assert taken == ("middle", "small")
    assert dropped == pytest.approx({"large": 30, "tiny": 2})


def test_devices_share_the_work() -> None:
    taken, dropped = affordable(ASKED, 12 * HOUR, devices=4)
    assert taken == ("large", "middle", "small", "tiny")
    assert not dropped


def test_a_budget_that_fits_nothing_names_the_quickest_and_its_hours() -> None:
    with pytest.raises(BudgetTooSmallError, match=r"tiny, the quickest, takes 2 h.*--epochs"):
        affordable(ASKED, HOUR, devices=1)


def test_nothing_to_do_fits_any_budget() -> None:
    assert affordable([], 1.0, devices=1) == ((), {})
