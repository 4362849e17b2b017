"""The dashboard: what people look at, server-rendered, on the four driving ports.

It is given its ports, as the HTTP API is, and touches no store.
"""
