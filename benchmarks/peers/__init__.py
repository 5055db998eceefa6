"""The systems that we are compared with. Celery's side runs in its own venv, and imports nothing of ours."""
