"""The HTTP API: its routes, who may use them, and the document that describes them.

Nothing is imported here: the configuration needs the tokens of `access` without FastAPI.
"""
