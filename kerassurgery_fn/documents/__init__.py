"""Edits and plans as JSON: codec, schema, fingerprints, the algebra of plans."""
