"""The commands: with `convert`'s the only place with absl flags."""
