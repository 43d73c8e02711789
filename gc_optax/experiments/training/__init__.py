"""What is trained, as pure functions: networks, optimizers, one epoch, augmentation."""
