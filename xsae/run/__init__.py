"""How a run happens: its configuration, paths and lock, the engine's start, notebooks, and jobs side by side."""
