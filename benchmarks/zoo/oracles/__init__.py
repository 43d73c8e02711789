"""What is right for a leaf, by the type of the module that owns it. No jaxpr is read."""
