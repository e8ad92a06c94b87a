"""ONNX Runtime: how its sessions are opened, run, watched and closed."""
