"""The tables of the documents, one function each, by subject."""
