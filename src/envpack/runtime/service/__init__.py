"""Running of a deployment's commands: what is checked before a start, the start itself, and what follows it."""
