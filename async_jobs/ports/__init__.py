"""What the application needs from the world, as Protocols with numbered promises.

Adapters never inherit these: a class that inherits a Protocol and forgets a method returns
None in silence, while a factory typed as the port makes the type checker name what is missing.

A promise is a line that begins with its number (`JS-1`). The suites in `async_jobs.testing`
hold a test with that number for each, and a test of our own checks that both sets agree.

Every method that reaches out may raise `Unavailable`, after which whether a write took effect
is unknown. Adapters translate their driver's exceptions once, with the cause chained.
"""
