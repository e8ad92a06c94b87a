"""The engine beside the runtime alone on one NVIDIA GPU."""
