"""Analytics: what a tenant's calls and runs came to, counted from the call records."""
