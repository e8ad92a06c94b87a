"""How each kind of step is carried out, one module a kind; which step comes next is `orchestrator.interpreter`'s."""
