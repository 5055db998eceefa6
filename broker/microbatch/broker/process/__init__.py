"""What every process of ours needs: signals, logs, imports, an end."""
