"""What can be wrong with a platform and the machine it runs on, and how each is mended."""
