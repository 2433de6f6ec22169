"""How a person is drawn."""
