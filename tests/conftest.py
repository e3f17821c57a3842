"""What every test shares: hypothesis explores the same examples on every machine, and never by the clock."""

from __future__ import annotations

import os

from hypothesis import settings

# A gate must not fail by luck; HYPOTHESIS_PROFILE=explore looks for new counterexamples.
settings.register_profile("gate", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))
