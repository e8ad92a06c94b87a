"""Models put together to one: how their graph is written, checked and worked out; running it is the servable's."""
