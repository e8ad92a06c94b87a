"""The model repository: versions on disk, in the database and in memory, and every step between them."""
