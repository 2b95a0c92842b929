"""The names of older tools, over this engine."""
