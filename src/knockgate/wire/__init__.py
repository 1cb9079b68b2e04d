"""Packets as bytes: what a header says (``frames``) and what to hear at all (``bpf``). Pure."""
