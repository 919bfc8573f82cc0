"""What the student is asked to match; one idea a file."""
