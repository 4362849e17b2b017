"""What meets the outside world: one package per technology, each implementing ports."""
