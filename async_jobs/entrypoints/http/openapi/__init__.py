"""What the HTTP API's OpenAPI document says."""
