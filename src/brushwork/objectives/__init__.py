"""Objectives: per-sample losses. One file each; the file name is the registered name."""
