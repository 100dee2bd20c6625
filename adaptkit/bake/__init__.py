"""An adapter into full weights, and back out of them."""
