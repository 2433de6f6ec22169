"""The HTTP API, a router for each resource."""
