"""Settings of the whole test run."""

from __future__ import annotations

import pytest
from hypothesis import is_hypothesis_test, settings

# No deadline: a busy machine must not fail a property. The blob printed on failure repeats it exactly.
settings.register_profile("house", deadline=None, print_blob=True)
settings.register_profile("long", settings.get_profile("house"), max_examples=2000)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A property test draws from the run's printed seed, so it is of the kind `seeded`."""
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.function):
            item.add_marker(pytest.mark.seeded)
