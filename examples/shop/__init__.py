"""An example service: a shop that takes orders and leaves the slow parts to jobs.

database.py  the shop's own tables, in the same database as the jobs
app.py       the FastAPI application: an order and its job are committed together
handlers.py  what a worker runs: receipts and reports
mail.py      a stand-in for an e-mail provider
client.py    another service, which asks for a report over HTTP and waits for it
"""
