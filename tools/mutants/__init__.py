"""Whether the tests would notice a mistake in what decides who comes in; `make mutants`.

A mutant is a module with one small mistake in it: another number, another comparison, a condition turned
round. For each the tests that belong to the module are run; a mutant that they pass has survived, and either
a test is missing or the change makes no difference. What makes none is written down in ``explained.toml``.

The mistakes are cosmic-ray's. Its runner is not used: it changes files in place, and begins a new Python for
each mutant. mutmut was the other choice: it changes bodies of plain functions alone, so that tables,
defaults, enumerations and all that has a decorator would go unasked.
"""
