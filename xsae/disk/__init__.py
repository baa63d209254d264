"""What lies on a disk: written whole or not at all, marked as ours, shared by a hub."""
