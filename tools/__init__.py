"""Tools that build and check what is generated. Nothing here runs on a user's machine."""
