"""Where facts go: structured logs."""
