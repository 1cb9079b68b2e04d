"""The lab: the whole tour on one machine, its hosts made of namespaces, nothing of it left behind.

::

    space        entering: own user, network, mount and process namespaces; ends with its parent
    stage        what runs inside: builds, asks, reports as JSON lines
    hosts        host, client and the wire between them
    people       users of host and client, and their SSH keys
    processes    starts what the units start, with the same commands
    asking       what the questions ask with: everybody's eyes, the wire, the notes
    questions    the questions, in the order of the tour
    ssh          the one that a real ssh asks
    reading      what a watcher of the wire can read in a knock
    wrong_clock  knockgate by a clock that is off
    wait         waiting on conditions
    front        the command: starts the stage, shows its progress, prints its report
"""
