"""Where the files of a data set lie; one file a data set."""
