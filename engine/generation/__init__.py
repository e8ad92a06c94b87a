"""Generation: decoder models that go on with a text, token by token, many at once."""
