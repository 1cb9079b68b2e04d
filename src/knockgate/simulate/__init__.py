"""What a gate would have done with the packets of a capture: the same engine, and no privileges."""
