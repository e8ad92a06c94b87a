"""The front proxy: its configuration, its certificates, its process."""
