"""One module per version of the state schema."""
