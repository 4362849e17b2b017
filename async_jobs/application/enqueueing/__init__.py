"""Enqueueing: what applications ask for, checked, gathered and added."""
