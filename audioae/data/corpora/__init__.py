"""Public corpora by name: where they are, how their folders are laid out, and how they are downloaded."""
