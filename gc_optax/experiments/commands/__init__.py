"""The command line: options, `compare`, `report`, `inspect`."""
