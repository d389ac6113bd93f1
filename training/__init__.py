"""How the demo model is made: pictures that a program draws, what damages them, and what trains on them."""
