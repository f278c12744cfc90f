"""Programs as users write them. `make check` and `make clients` check their types; they do not run."""
