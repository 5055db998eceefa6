"""What every Microbatch process needs: signals, logs, imports, and an orderly end."""
