"""Jobs and what belongs to them, without a database or HTTP; standard library only."""
