"""Codecs of single packets, pure: randomness and time are arguments."""
