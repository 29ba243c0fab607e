"""What several edits share: drafts, cutting, config fields, initial weights."""
