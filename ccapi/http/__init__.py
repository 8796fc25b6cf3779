"""HTTP machinery: blueprint, authentication, parser, errors, cache, document; nothing of jobs."""
