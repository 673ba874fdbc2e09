"""A system of somebody else's: a ring of anharmonic oscillators."""
