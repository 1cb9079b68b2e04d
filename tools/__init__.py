"""What is run on this checkout, by `make` and by hand; the product never imports this."""
