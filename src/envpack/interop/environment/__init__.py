"""The environment in an archive that conda-pack made: found, unpacked and read, with its defects repaired."""
