"""File formats: the names that layers have in other programs' files, and the readers and writers that use them.

Nothing here imports torch before it is called; ``brushwork.formats.pickles`` never does.
"""
