"""Work on data sets: what is in one, what is wrong with it, and what can be done about it."""
