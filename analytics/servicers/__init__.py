"""One file a proto service: message in, core call, message out."""
