"""What a person types: one module per command, the console, exit codes. Only here: typer and rich."""
