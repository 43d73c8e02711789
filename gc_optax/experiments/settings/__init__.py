"""Every setting of a comparison, and the presets."""
