"""Methods: what is trained. One file each; the file name is the registered name."""
