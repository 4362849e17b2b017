"""Settings: the environment's variables, read and checked once."""
