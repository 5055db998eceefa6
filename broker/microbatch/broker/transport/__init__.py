"""How commands reach the server, and what their replies mean."""
