"""Measurements that take a machine to themselves; the product never imports this."""
