"""An environment's needs of the host it runs on: CUDA, GPU code, glibc, CPU, disk, each with its evidence."""
