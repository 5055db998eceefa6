"""The contract with Redis: keys, scripts, wire format, settings, errors, clock."""
