"""HTTP in, HTTP out: the contract's operations as Flask blueprints."""
