"""How the files of each data set are laid out; one module per data set."""
