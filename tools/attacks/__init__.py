"""The attack suite as a command: run it, keep its figures, and make a page of them."""
