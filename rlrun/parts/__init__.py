"""What algorithms are made of: replay, returns, distributions, exploration. Knows no algorithm."""
