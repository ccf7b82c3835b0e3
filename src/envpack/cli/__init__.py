"""The command line: one module per command, the console, exit codes. Only here typer and rich are imported."""
