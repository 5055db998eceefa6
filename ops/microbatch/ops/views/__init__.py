"""Output for people, and for programs that read JSON."""
