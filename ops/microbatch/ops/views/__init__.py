"""How things look to a person, and to a program that reads JSON."""
