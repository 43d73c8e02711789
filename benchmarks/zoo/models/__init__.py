"""The models, one module per package. Each has `PACKAGES` (what it needs) and `entries()`."""
