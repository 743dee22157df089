"""Photos, signatures and files that entries refer to: fetched once, kept in a store, told by reference."""
