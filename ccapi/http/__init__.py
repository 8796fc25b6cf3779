"""The framework around the operations: middleware, authentication, parsing, errors, the document."""
