"""x"""
class ContractError(Exception): pass
def render(x): return "{}\n"
