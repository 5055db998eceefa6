"""What we are compared with. Celery's side runs in a venv of its own; nothing of ours is imported there."""
