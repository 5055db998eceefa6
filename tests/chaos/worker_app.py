"""The app as a pool's workers import it: with the mutant of the run, and noting what they do."""

from __future__ import annotations

import os

from tests.chaos import app, mutants
from tests.chaos.recording import record_verbs

mutants.apply(os.environ.get(app.MUTANT, ""))
record_verbs()
app.history.note("start")

config = app.config
