"""The rules of the house, checked by programs: lints, generated pages, and the one runner behind `./run`."""
