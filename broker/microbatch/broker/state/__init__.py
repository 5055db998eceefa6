"""What a batcher keeps on the server: one module for each key, or group of keys."""
