"""What the tests share: models, laws, random models and edits."""
