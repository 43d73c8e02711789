"""Public models through the two functions that find axes, against an oracle: see README.md."""
