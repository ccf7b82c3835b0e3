"""Look at this host: its kernel, processors, memory, GPUs and their driver."""
