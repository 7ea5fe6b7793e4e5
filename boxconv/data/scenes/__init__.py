"""Road scenes drawn by a program, in which some classes can only be told apart by distant objects."""
