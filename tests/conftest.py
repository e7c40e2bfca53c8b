"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes depends on who else loads the machine; nothing here is timed.
# Examples differ from run to run; `pytest --hypothesis-profile=thorough` draws a release's worth.
settings.register_profile("untimed", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("untimed")

#: Real images of two public cohorts, beside the repository; never copied into it.
SHARED = Path(__file__).parents[2] / "shared" / "cohorts"

#: What takes longest is begun first: at the end it would leave the other worker without work.
FIRST = (
    "test_four_class_result.py",
    "test_tune.py",
    "test_seven_encoders.py",
    "test_finetune.py",
    "test_resume.py",
    "test_main_job.py",
    "test_crew.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In this order with xdist's --no-loadscope-reorder, which otherwise takes few tests last."""
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(FIRST)))


@pytest.fixture(scope="session")
def shared_cohorts() -> Path:
    """The folder of real cohorts, or a skip that says what is missing."""
    if not SHARED.is_dir():
        pytest.skip("../shared/cohorts (real images) is not beside this checkout")
    return SHARED
