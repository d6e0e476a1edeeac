"""The vector environments themselves; these modules import gymnasium, so builders import them."""
