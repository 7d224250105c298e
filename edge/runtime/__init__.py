"""Running a file: on the CPU, on the GPU, in a process of its own, in a sandbox; and the machine it runs on."""
