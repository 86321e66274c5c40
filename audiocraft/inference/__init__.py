"""Generation requests and the samples they give, with recipes."""
