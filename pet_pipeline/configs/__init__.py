"""Settings: schemas, presets, loading."""
