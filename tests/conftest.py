"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes depends on who else loads the machine; nothing here is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

#: Real images of two public cohorts, beside the repository; never copied into it.
SHARED = Path(__file__).parents[2] / "shared" / "cohorts"


@pytest.fixture(scope="session")
def shared_cohorts() -> Path:
    """The folder of real cohorts, or a skip that says what is missing."""
    if not SHARED.is_dir():
        pytest.skip("../shared/cohorts (real images) is not beside this checkout")
    return SHARED
