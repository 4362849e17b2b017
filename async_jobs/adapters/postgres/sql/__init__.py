"""Every statement, one a file, named after it. `now` is always a parameter."""
