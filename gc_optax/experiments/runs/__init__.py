"""What a run measured: in memory, in its folder, and what follows from it in numbers."""
