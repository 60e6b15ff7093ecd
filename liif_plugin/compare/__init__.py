"""Any number of models on any number of sets and scales under one protocol: ``liif compare``.

plan (what the option file asks for) -> measure (one cell, kept on disk) -> report (tables and the figure); published: the paper's values.
"""
