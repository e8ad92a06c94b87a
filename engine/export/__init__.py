"""Exporters: published weights in, a portable ONNX file out.

They run when a machine is set up; the serving process never imports them.
"""
