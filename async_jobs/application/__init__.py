"""The use cases: what needs ports. One per file, every port injected by the constructor."""
