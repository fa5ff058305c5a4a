"""From a volume to its translation, one file or many."""
