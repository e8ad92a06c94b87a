"""The engine and its peers side by side: the same models, the same requests, the same load, in the same minutes."""
