"""How the system is started and reached: environment, wiring, command line."""
