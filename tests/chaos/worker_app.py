"""The apps that the workers of a pool import. They apply the mutant of the run, and note what is done."""

from __future__ import annotations

import os

from tests.chaos import app, mutants, own_app
from tests.chaos.recording import record_verbs

mutants.apply(os.environ.get(app.MUTANT, ""))
record_verbs()
app.history.note("start")

config = app.config
own_config = own_app.config
