"""Physical systems: each folder is one field, with its targets, effective models, updates and observables."""
