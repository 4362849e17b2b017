"""Numbered migrations, applied in order, each once."""
