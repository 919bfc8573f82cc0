"""Studies behind EXPERIMENTS.md: each is one command that resumes where it stopped."""
