"""Base models (DESIGN section 5): what one is, whether two are one, its weights, and what fits it.

A name proves nothing. `as1` says which tensors there are, `fs1` which files, `tm1` which bytes.
"""
