"""The asyncio client: it drives the same work as the client for threads, in tasks of its own."""
