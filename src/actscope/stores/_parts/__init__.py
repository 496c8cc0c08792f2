"""How capture plans, runs and writes units, and how stores read them."""
