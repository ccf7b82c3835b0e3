"""Detection of this host's properties: its kernel, processors, memory, GPUs and their driver."""
