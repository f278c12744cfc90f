"""What the speed claims rest on: `make bench` measures the product, and anybody can run it."""
