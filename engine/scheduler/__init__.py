"""Who is computed when, and together with whom: queues, batches, a second session beside the first.

It knows no transport and no model: it takes items and gives results.
"""
