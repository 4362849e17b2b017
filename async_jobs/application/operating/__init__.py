"""What operators ask: why jobs wait, and who is there."""
