"""Other tools' formats: archives that conda-pack made are read, deployed and converted; its other formats are
written through its own library."""
