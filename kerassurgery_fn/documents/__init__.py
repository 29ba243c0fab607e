"""Writes edits and plans as JSON: encoding, schema, files, fingerprints of models, and operations on plans."""
