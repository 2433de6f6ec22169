"""``distill-student evaluate``: how good models are on clips they have not seen, and what they cost."""
