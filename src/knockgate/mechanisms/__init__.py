"""The kinds of knock; each is fed events with the time and answers with effects. Pure."""
