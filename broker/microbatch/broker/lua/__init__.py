"""The Lua scripts, each one verb, and their loader."""
