"""The other end of the gate: ``send`` knocks, ``wait`` watches the door, ``profiles`` remembers hosts."""
