"""Settings of the whole test run."""

from __future__ import annotations

from hypothesis import settings

# No deadline: a busy machine must not fail a property. The blob printed on failure repeats it exactly.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")
