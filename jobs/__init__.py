"""The command line. Imports no torch and no ray until a command needs them."""
