"""The command line of the runtime, a module for each command."""
