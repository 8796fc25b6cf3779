"""The use cases: what must be atomic, or touches database and archive both."""
