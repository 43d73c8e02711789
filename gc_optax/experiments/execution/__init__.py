"""How it is trained: compiled epochs, memory, devices, hosts, checkpoints, the run's record."""
