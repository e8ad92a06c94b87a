"""The Open Inference Protocol's REST side: from bodies to tensors and back. Transports live in `engine.servicers`."""
