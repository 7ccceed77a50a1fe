"""Connection pools: what they are set to, how large they should be, and how they are doing."""
