"""The HTTP side of the functions: routes, requests, responses, limits, the server, the OpenAPI description."""
