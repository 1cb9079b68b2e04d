"""The table in the kernel: its text (``ruleset``), the adapter that loads it, and a verified fake."""
