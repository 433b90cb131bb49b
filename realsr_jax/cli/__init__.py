"""The commands: the only place with absl flags."""
