"""Data that lie on S3 or on this machine, and that workers read there: found, cut, counted, and read row by row."""
