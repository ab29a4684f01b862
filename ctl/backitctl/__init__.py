"""The command line: what people type. Each command parses, calls the core, and renders."""
