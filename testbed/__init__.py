"""The test bed: a throwaway 1 GB VPS in a container, and the small internet around it."""
