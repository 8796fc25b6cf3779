"""What a job is, and the rules it obeys wherever it comes from; standard library only."""
