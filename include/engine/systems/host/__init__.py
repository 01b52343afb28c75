"""The machine that the sweep runs on, or a node exporter: disks, inodes, memory, processes."""
