"""What an admin writes down: ``doors`` (gate.toml), ``toml`` (how it is read), importers beside them."""
