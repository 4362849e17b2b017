"""The screens: each is a function that is given a visit and returns a page."""
