"""What was measured: rows, the store, files of others."""
