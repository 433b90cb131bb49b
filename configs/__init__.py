"""Configurations by name: each file's ``get_config()`` returns what its command runs."""
