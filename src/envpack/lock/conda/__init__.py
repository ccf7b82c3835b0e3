"""What the resolution of the conda part adds to rattler's solver: the priority of channels, and suggestions."""
