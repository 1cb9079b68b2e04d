"""Behind ``knockgate knock``: its options, what they come to, and what is told of each kind of knock."""
