"""HTTP for all functions. Handlers get a request and the use cases, and return a reply."""
