"""``liif view``: views.py says what is in view, features.py and plain.py and painting.py make its pixels, turns.py decides whose turn it
is, server.py hands them out, page/ shows them.
"""
