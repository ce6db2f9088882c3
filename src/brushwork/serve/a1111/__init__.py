"""What A1111's web UI means by its requests: fields, options, and the answers that its clients are strict about."""
