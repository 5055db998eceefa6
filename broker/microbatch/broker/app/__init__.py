"""What a user gives: the settings, the functions, the module that they are in."""
