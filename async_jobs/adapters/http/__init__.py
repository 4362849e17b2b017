"""The HTTP interface from its clients' side, and the words that both sides speak."""
