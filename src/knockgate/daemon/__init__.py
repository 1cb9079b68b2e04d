"""The running gate: halves that cannot hurt each other, each a process of its own, and who starts them."""
