"""PyTorch checkpoints to weights directories and back, without PyTorch."""
