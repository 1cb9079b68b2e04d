"""Looking at a host: whatever on it works against the gate, and how to mend it.

Each module looks at one part of the host. What reads the world is kept apart from what judges: the
judgements are functions of what was read. ``finding`` has the closed list of all that can be found,
``examine`` asks them all. Nothing here changes anything.
"""
