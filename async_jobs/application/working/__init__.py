"""Working: a worker from the hand-off that it receives to the outcome that it saves."""
