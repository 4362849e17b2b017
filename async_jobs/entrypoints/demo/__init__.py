"""The demonstration: the whole system on a realistic workload."""
