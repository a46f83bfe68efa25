"""Tables of the documents, made from the code that they repeat. One file for each kind."""
