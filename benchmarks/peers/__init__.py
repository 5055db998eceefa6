"""The systems that we are compared with. All but RQ run in their own venv, and import nothing of ours."""
