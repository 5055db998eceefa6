"""The app that the workers of a pool import: it applies the mutant of the run, and notes what they do."""

from __future__ import annotations

import os

from tests.chaos import app, mutants
from tests.chaos.recording import record_verbs

mutants.apply(os.environ.get(app.MUTANT, ""))
record_verbs()
app.history.note("start")

config = app.config
