"""What the user provides: the settings, the functions, and the module that holds them."""
