"""Bridges to other libraries. Each imports its library itself, so that nothing here is needed where it is absent."""
